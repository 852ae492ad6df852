"""Reopen: the regression of a published bundle, read back from its graph.

Comes in: a bundle. Goes out: its `LinearRouter`, whose log-odds are those of the fit it was exported from, and the
weight from which its n-grams are rare. The names are those that `training.bundle.export` gives the initializers;
nothing else about the graph is relied on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from turnout.serving.bundles.bundle import GRAPH, RUNGS, TOKENIZER, Bundle
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.fit.calibrators import LogitLine
from turnout.training.fit.fit import Head, LinearRouter, Scaler
from turnout.training.fit.rungs import Frequencies, RungFit

_Constants = Mapping[str, NDArray[Any]]


def reopen(bundle: Bundle) -> LinearRouter:
    """Return the regression that a bundle's graph holds; log-odds agree with the exported one's to 1e-6.

    Raises:
        DataRefused: the graph lacks one of the constants, so this Turnout did not write it.
    """
    found = _constants(bundle)
    try:
        scaler = Scaler(
            idf=found["idf"],
            structural_mean=found["structural_mean"],
            structural_factor=found["structural_factor"],
            structural_clip=float(found["clip_high"]),
            dense_scale=1.0,  # the exported weights hold it already
        )
        return LinearRouter(scaler, _head(found, "fast", None), _head(found, "full", found["dense_weights"]))
    except KeyError as error:
        raise DataRefused(
            f"{bundle.folder / GRAPH}: no constant {error}; this Turnout can't recalibrate that graph, train again"
        ) from error


def reopen_rare_weight(bundle: Bundle) -> np.float32 | None:
    """Return the weight from which an n-gram is rare; None for a bundle that calls nothing out of distribution."""
    found = _constants(bundle).get("rare_idf")
    return None if found is None else np.float32(found)


def reopen_rungs(bundle: Bundle) -> RungFit:
    """Return the heads of the rungs between that a bundle's graph holds, each with the line that it is served with.

    The line's intercept was folded into the head's: lines here begin at 0, and p is the same to 1e-6.

    Raises:
        DataRefused: the graph lacks one of the constants, so this Turnout did not write it.
    """
    found = _constants(bundle, RUNGS)
    try:
        slopes = np.asarray(found["slope"], dtype=np.float64)
        own = np.where(slopes == 0.0, 1.0, slopes)  # a flat line says its intercept of every row
        scaler = Scaler(
            idf=found["idf"][found["levels"]],
            structural_mean=found["structural_mean"],
            structural_factor=found["structural_factor"],
            structural_clip=float(found["clip_high"]),
            dense_scale=1.0,
        )
        heads = tuple(
            Head(
                lexical=found["lexical"][:, [rung]].astype(np.float32) * np.float32(slopes[rung] != 0.0),
                structural=(found["structural_weights"][:, [rung]] / own[rung]).astype(np.float32),
                dense=None,
                intercept=np.array([found["start"][rung] / own[rung]], np.float32),
                matches=np.zeros(1, dtype=bool),
            )
            for rung in range(slopes.size)
        )
        frequencies = Frequencies(found["levels"], found["idf"])
    except KeyError as error:
        raise DataRefused(
            f"{bundle.folder / RUNGS}: no constant {error}; this Turnout can't recalibrate that graph, train again"
        ) from error
    return RungFit(frequencies, scaler, heads, tuple(LogitLine("platt", float(slope), 0.0) for slope in own))


def _constants(bundle: Bundle, name: str = GRAPH) -> _Constants:
    initializers = onnx.load(bundle.folder / name).graph.initializer
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in initializers}


def check_encoder(bundle: Bundle, encoder: EncoderModel) -> None:
    """Refuse an encoder or tokenizer that is not the one inside the bundle.

    Raises:
        DataRefused: a digest differs.
    """
    manifest = bundle.manifest
    for what, expected, got in (
        ("encoder", manifest.encoder.sha256, encoder.card.sha256),
        ("tokenizer", manifest.files[TOKENIZER].sha256, hashlib.sha256(encoder.tokenizer_json).hexdigest()),
    ):
        if got != expected:
            raise DataRefused(
                f"{bundle.folder}: holds {manifest.encoder.name} with {what} SHA-256 {expected}, the {what} of "
                f"{encoder.card.name} has {got}; name the one it was trained with by --encoder, or train again"
            )


def _head(found: _Constants, name: str, dense: NDArray[np.float32] | None) -> Head:
    match_classes, miss_classes = found["match_classes"], found["miss_classes"]
    matches = np.zeros(match_classes.size + miss_classes.size, dtype=bool)
    matches[match_classes] = True
    return Head(
        lexical=found[f"{name}_lexical"],
        structural=found[f"{name}_structural"],
        dense=dense,
        intercept=found[f"{name}_intercept"],
        matches=matches,
    )
