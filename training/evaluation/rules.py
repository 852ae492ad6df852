"""Rules over three actions, held against outcomes: what each does to quality, cost and waiting.

Comes in: rows with both looks, and thresholds. Goes out: an `LookOutcome` each, or a `Path` of many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from turnout.training.arrays import Floats
from turnout.training.evaluation import bootstrap
from turnout.training.evaluation.looks import LookOutcome, Path
from turnout.training.policy.guarantees import binomial_upper_bound
from turnout.training.policy.policy import DELTA, one_row_a_group
from turnout.training.policy.three_actions import LookedAt, Thresholds

Rule = Thresholds
STEPS = 100
"""Points of a path lie where another 1 % of the rows is answered by the weak model."""

BLOCK = 50
"""Bootstraps at a time: (n, 50) float64 of 31,000 rows are 12 MB."""

_COLUMNS = ("answered_weak", "waits_twice", "worse", "score", "cost")


def judge_rules(rows: LookedAt, rules: Sequence[Rule], seed: int, n_bootstraps: int) -> list[LookOutcome]:
    """Return what each rule does over all rows, with intervals over groups."""
    if not rules:
        return []
    columns = np.concatenate([_columns(rows, rule) for rule in rules])
    base = np.stack((np.ones(rows.match.size), rows.strong_score, rows.costs.strong))
    stacked = np.concatenate((base, columns))
    point = _figures(stacked.sum(axis=1)[:, None])
    draws = [_figures(sums) for sums in _drawn(stacked, rows, seed, n_bootstraps)]
    drawn = np.concatenate(draws, axis=2) if draws else None
    return [_outcome(place, point, drawn) for place in range(len(rules))]


def trace(rows: LookedAt, points: Sequence[Rule], extra: Sequence[Rule], seed: int, n_bootstraps: int) -> Path:
    """Return what a path does, thinned to another 1 % of the rows a point, the rules named in `extra` kept.

    Args:
        rows: to judge on.
        points: from the safest to the cheapest.
        extra: rules that must stand among the points.
        seed: of the bootstraps, and of the row drawn from each group.
        n_bootstraps: 0 for no band of the quality.
    """
    rules = [*_thinned(rows, points), *extra]
    weak = np.array([rule.answered_weak(rows) for rule in rules])
    order = np.argsort(weak.mean(axis=1), kind="stable")
    rules, weak = [rules[place] for place in order], weak[order]
    worse = weak & (rows.match == 0)
    routed = np.where(weak, rows.weak_score, rows.strong_score)
    strong = float(rows.strong_score.sum())
    band = _band(routed, rows, seed, n_bootstraps)
    drawn = one_row_a_group(rows.group, seed)
    return Path(
        cost=[float(rule.usd(rows).sum() / rows.costs.strong.sum()) for rule in rules],
        answered_weak=weak.mean(axis=1).tolist(),
        waits_twice=[float(rule.actions(rows)[2].mean()) for rule in rules],
        worse=worse.mean(axis=1).tolist(),
        quality=(routed.sum(axis=1) / strong).tolist() if strong > 0 else None,
        quality_low=None if band is None else band[0].tolist(),
        quality_high=None if band is None else band[1].tolist(),
        worse_bound=[binomial_upper_bound(int(row.sum()), drawn.size, DELTA) for row in worse[:, drawn]],
        t_strong=[float(rule.t_strong) for rule in rules],
        t_weak=[float(rule.t_weak) for rule in rules],
        t_accept=[float(rule.t_accept) for rule in rules],
    )


def _thinned(rows: LookedAt, points: Sequence[Rule]) -> list[Rule]:
    shares = np.array([point.answered_weak(rows).mean() for point in points])
    nearest = [int(np.abs(shares - share).argmin()) for share in np.linspace(0.0, shares.max(), STEPS + 1)]
    return [points[place] for place in sorted(set(nearest))]


def _columns(rows: LookedAt, rule: Rule) -> Floats:
    """Return (5, n) in the order of `_COLUMNS`."""
    weak, accepted, escalated = rule.actions(rows)
    shown = weak | accepted
    score = np.where(shown, rows.weak_score, rows.strong_score)
    return np.stack((shown, escalated, shown & (rows.match == 0), score, rule.usd(rows))).astype(np.float64)


def _figures(sums: Floats) -> NDArray[np.float64]:
    """Return (rules, 6, d) figures of (3 + 5 rules, d) sums: the fields of `LookOutcome` in their order."""
    n, strong_score, strong_cost = sums[:3]
    answered, twice, worse, score, cost = np.moveaxis(sums[3:].reshape(-1, len(_COLUMNS), sums.shape[1]), 1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        figures = (answered / n, twice / n, score / strong_score, worse / n, worse / answered, cost / strong_cost)
        return np.stack(figures, axis=1)


def _outcome(place: int, point: Floats, drawn: NDArray[np.float64] | None) -> LookOutcome:
    names = ("answered_weak", "waits_twice", "quality", "worse", "worse_of_weak", "cost")
    values = [float(value) if np.isfinite(value) else None for value in point[place, :, 0]]
    found = dict(zip(names, values, strict=True))
    intervals = {}
    if drawn is not None:
        for number, name in enumerate(names):
            defined = [float(value) if np.isfinite(value) else None for value in drawn[place, number]]
            intervals[name] = bootstrap.interval(name, found[name], defined)
    return LookOutcome(**found, intervals=intervals)  # type: ignore[arg-type]  # only the two ratios may be None


def _band(routed: Floats, rows: LookedAt, seed: int, n_bootstraps: int) -> NDArray[np.float64] | None:
    """(2, points) quality under bootstraps; None without them or without quality."""
    stacked = np.concatenate((rows.strong_score[None], routed))
    ratios = [sums[1:] / sums[0] for sums in _drawn(stacked, rows, seed, n_bootstraps) if (sums[0] > 0).all()]
    return np.quantile(np.concatenate(ratios, axis=1), bootstrap.TAILS, axis=1) if ratios else None


def _drawn(columns: Floats, rows: LookedAt, seed: int, n_bootstraps: int) -> Iterator[Floats]:
    """Yield (k, d) sums of (k, n) columns under blocks of at most `BLOCK` draws of groups."""
    block: list[Floats] = []
    for weights in bootstrap.group_draws(rows.group, seed, n_bootstraps):
        block.append(weights)
        if len(block) == BLOCK:
            yield columns @ np.stack(block, axis=1)
            block = []
    if block:
        yield columns @ np.stack(block, axis=1)
