"""Slices: the router on each task, source, language, length and depth of conversation.

Comes in: `Outcomes`. Goes out: `Slices`, each with what the default policy loses on it against the strong model.
Intervals are bootstraps of the slice's own groups.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from turnout.training.arrays import Floats
from turnout.training.dataset.outcomes import Outcomes
from turnout.training.evaluation import bootstrap, metrics
from turnout.training.evaluation.evaluation import Slice, Slices
from turnout.training.evaluation.metrics import Ranking, SourceRanking

N_BOOTSTRAPS = 200
"""At most: an interval for each of some seventy slices is to be read at a glance, not quoted."""

LENGTH_QUANTILES = (0.2, 0.4, 0.6, 0.8)
TURNS_UP_TO = (1, 2, 5)


def slice_all(outcomes: Outcomes, *, threshold: float | None, seed: int, n_bootstraps: int) -> Slices:
    """Return every slice.

    Args:
        outcomes: the rows.
        threshold: of the default policy; None leaves out what it sends weak and what that loses.
        seed: of the bootstraps and of the ECE's floor.
        n_bootstraps: 0 for no intervals; more than `N_BOOTSTRAPS` count as that.
    """
    n_bootstraps = min(n_bootstraps, N_BOOTSTRAPS)

    def by(names: Sequence[str]) -> list[Slice]:
        column = np.asarray(names, dtype=np.str_)
        found = [
            _slice(str(name), outcomes, column == name, threshold, seed, n_bootstraps) for name in np.unique(column)
        ]
        return sorted(found, key=lambda item: (-item.n, item.name))

    def by_order(bins: tuple[NDArray[np.int64], list[str]]) -> list[Slice]:
        place, names = bins
        return [
            _slice(name, outcomes, place == number, threshold, seed, n_bootstraps)
            for number, name in enumerate(names)
            if (place == number).any()
        ]

    ranked = SourceRanking.of(outcomes.p_match, outcomes.source)
    return Slices(
        task=by(outcomes.task),
        source=by(outcomes.source),
        stage=by(["FULL" if is_full else "FAST" for is_full in outcomes.is_full]),
        n_sources_left_out=metrics.auroc_within_source(ranked, outcomes.match.astype(np.float64)).n_left_out,
        language=[] if outcomes.language is None else by(outcomes.language),
        length=[] if outcomes.tokens is None else by_order(length_bins(outcomes.tokens)),
        turns=[] if outcomes.turns is None else by_order(turn_bins(outcomes.turns)),
    )


def length_bins(tokens: Floats) -> tuple[NDArray[np.int64], list[str]]:
    """Return the bin of each of (n,) lengths, and the bins' names: fifths of the rows, fewer where many are equal."""
    edges = np.unique(np.floor(np.quantile(tokens, LENGTH_QUANTILES)).astype(np.int64))
    return _binned(tokens, edges.tolist(), "token")


def turn_bins(turns: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[str]]:
    """Return the bin of each of (n,) numbers of user messages, and the bins' names."""
    return _binned(turns, list(TURNS_UP_TO), "turn")


def _binned(values: NDArray[np.generic], edges: list[int], unit: str) -> tuple[NDArray[np.int64], list[str]]:
    starts = [1, *(edge + 1 for edge in edges[:-1])]
    names = [
        f"{start} {unit}{'s' if start > 1 else ''}" if start == edge else f"{start} to {edge} {unit}s"
        for start, edge in zip(starts, edges, strict=True)
    ]
    return np.searchsorted(np.array(edges), values, side="left"), [*names, f"over {edges[-1]} {unit}s"]


def _slice(
    name: str, outcomes: Outcomes, rows: NDArray[np.bool_], threshold: float | None, seed: int, n_bootstraps: int
) -> Slice:
    p_match, match = outcomes.p_match[rows], outcomes.match[rows].astype(np.float64)
    strong, weak = outcomes.strong_score[rows], outcomes.weak_score[rows]
    ranking = Ranking.of(p_match)
    goes_weak = None if threshold is None else outcomes.goes_weak(outcomes.p_match, threshold)[rows]
    routed = None if goes_weak is None else np.where(goes_weak, weak, strong)

    def figures(weights: Floats | None = None) -> dict[str, float | None]:
        return {
            "match_rate": float(np.average(match, weights=weights)),
            "auroc": metrics.auroc(ranking, match, weights),
            "drop": None if routed is None else _drop(strong, routed, weights),
            "drop_if_weak": _drop(strong, weak, weights),
        }

    point = figures()
    draws = [figures(weights) for weights in bootstrap.group_draws(outcomes.group[rows], seed, n_bootstraps)]
    return Slice(
        name=name,
        n=len(match),
        match_rate=float(np.mean(match)),
        p_match=float(np.mean(p_match)),
        auroc=point["auroc"],
        ece=metrics.ece(ranking, p_match, match),
        ece_floor=metrics.ece_floor(p_match, seed),
        share_weak=None if goes_weak is None else float(np.mean(goes_weak)),
        drop=point["drop"],
        drop_if_weak=point["drop_if_weak"],
        intervals={key: bootstrap.interval(key, point[key], [draw[key] for draw in draws]) for key in point},
    )


def _drop(strong: Floats, routed: Floats, weights: Floats | None) -> float | None:
    """Mean score lost against the strong model, as a share of its mean score; None where that is 0."""
    mean = float(np.average(strong, weights=weights))
    return None if mean <= 0 else float(np.average(strong - routed, weights=weights)) / mean
