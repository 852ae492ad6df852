"""From the weights of a router graph, and of the rungs between, to the numbers that the fast head in C takes.

Comes in: the initialisers of a graph by name, as `turnout.training.bundle.export` and `.rungs` write them. Goes out:
`Weights`, and those of rungs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from turnout.serving.router.features import N_BUCKETS, STRUCTURAL

LINE, BETA, ISOTONIC = range(3)
_CALIBRATORS = {
    ISOTONIC: ("fast_start", "fast_knots", "fast_gaps", "fast_slopes"),
    BETA: ("fast_match_slope", "fast_miss_slope", "fast_start"),
    LINE: ("fast_slope", "fast_start"),
}
_MAX_CLASSES = 8
MAX_RUNGS = 8
"""Rungs between that the head in C holds; `rungs.h` says the same."""


class Weights(NamedTuple):
    """What the fast head computes with.

    Attributes:
        numbers: as `head.c` names them, in its order.
        calibrator: its kind.
    """

    numbers: tuple[bytes, ...]
    calibrator: int


def read_weights(graph: Mapping[str, NDArray[Any]]) -> Weights:
    """Return the weights of the fast head.

    Raises:
        KeyError: one is missing, so that the graph is no router graph as `export` writes it.
        ValueError: a shape is another than the fast head has.
    """
    lexical = graph["fast_lexical"]
    n_classes = lexical.shape[-1]
    if lexical.shape != (N_BUCKETS, n_classes) or not 1 <= n_classes <= _MAX_CLASSES:
        raise ValueError(f"fast_lexical: shape {lexical.shape}")
    n_measures = len(STRUCTURAL)
    for name, shape in (
        ("idf", (N_BUCKETS,)),
        ("structural_mean", (n_measures,)),
        ("structural_factor", (n_measures,)),
        ("fast_structural", (n_measures, n_classes)),
        ("fast_intercept", (n_classes,)),
    ):
        if graph[name].shape != shape:
            raise ValueError(f"{name}: shape {graph[name].shape}")
    is_match = np.zeros(n_classes, np.float32)
    if n_classes > 1:
        is_match[graph["match_classes"]] = 1.0
    kind = next(kind for kind, names in _CALIBRATORS.items() if kind == LINE or set(names) <= graph.keys())
    knows_rare = "rare_idf" in graph
    rare = [graph["rare_idf"], graph["rare_share_limit"]] if knows_rare else [np.nan, np.nan]
    structural = ("structural_mean", "structural_factor", "clip_low", "clip_high", "fast_structural")
    return Weights(
        (
            _floats(np.column_stack((graph["idf"], lexical))),
            _floats(is_match),
            _floats(*(graph[name] for name in structural)),
            _floats(graph["fast_intercept"]),
            _floats(*(graph[name] for name in _CALIBRATORS[kind])),
            _floats(graph["odds_low"], graph["odds_high"], graph["tiny"], *rare),
            _doubles(graph["band_edges"]),
            _doubles(graph["half_widths"]),
            _doubles(graph["p_low"], graph["p_high"]),
        ),
        kind,
    )


def read_rung_weights(graph: Mapping[str, NDArray[Any]]) -> tuple[bytes, ...]:
    """Return the weights of the rungs between, as `rungs.h` names them, in its order.

    Raises:
        KeyError: one is missing, so that the graph is none of rungs as `training.bundle.rungs` writes it.
        ValueError: a shape is another, or there are more rungs than `MAX_RUNGS`.
    """
    lexical, idf = graph["lexical"], graph["idf"]
    n_rungs, n_measures = lexical.shape[-1], len(STRUCTURAL)
    if lexical.dtype != np.float16 or lexical.shape != (N_BUCKETS, n_rungs) or idf.ndim != 1:
        raise ValueError(f"lexical: {lexical.dtype}, shape {lexical.shape}; idf: shape {idf.shape}")
    if not 1 <= n_rungs <= MAX_RUNGS:
        raise ValueError(f"{n_rungs} rungs between, at most {MAX_RUNGS} are held")
    for name, shape in (
        ("levels", (N_BUCKETS,)),
        ("structural_mean", (n_measures,)),
        ("structural_factor", (n_measures,)),
        ("structural_weights", (n_measures, n_rungs)),
        ("slope", (n_rungs,)),
        ("start", (n_rungs,)),
    ):
        if graph[name].shape != shape:
            raise ValueError(f"{name}: shape {graph[name].shape}")
    structural = ("structural_mean", "structural_factor", "clip_low", "clip_high", "structural_weights")
    return (
        np.column_stack((graph["levels"].astype(np.uint16), lexical.view(np.uint16))).tobytes(),
        _floats(idf),
        _floats(*(graph[name] for name in structural)),
        _floats(*(graph[name] for name in ("slope", "start", "tiny", "p_low", "p_high"))),
    )


def _floats(*parts: Any) -> bytes:
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32).tobytes()


def _doubles(*parts: Any) -> bytes:
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float64).tobytes()
