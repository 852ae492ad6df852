"""The path of a ladder: candidates from the safest to the cheapest, each with every threshold lowered or as before.

Comes in: `LadderRows`. Goes out: `LadderThresholds`. Only calibrated p and costs shape the path, and
no label: so testing along it holds its level on the very rows that traced it (docs/decisions/training/0020).

For a price of one worse answer a rung is worth taking where price * (1 - p) is at most what it saves against the best
that may follow, which gives the rungs between their thresholds from the top down. Rung 0's then minimise the expected
total, cost plus price * risk, over rows sorted by its p.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from turnout.serving.bundles.policy import NEVER
from turnout.training.arrays import Floats, Ints
from turnout.training.policy.ladder import LadderRows, LadderThresholds, always_top
from turnout.training.policy.three_actions import KINDS, PATH_POINTS, cuts, value_at

NOMINAL_SHARE = 1 / 16.7
"""Cost of the first rung where the top's is 1 and prices are unknown, those between in equal ratios: the list prices of
gpt-4o-mini and gpt-4o. Only the order of rungs is sure then, so that no figure in money rests on it."""


def nominal_usd(n_rows: int, n_rungs: int) -> Floats:
    """Return (n, k) costs that say nothing but the order of the rungs."""
    place = np.arange(n_rungs) / (n_rungs - 1)
    return np.tile(NOMINAL_SHARE ** (1.0 - place), (n_rows, 1))


def trace(rows: LadderRows, *, wait_usd: float = 0.0, points: int = PATH_POINTS) -> list[LadderThresholds]:
    """Return the candidates; with a second look where the rows have one.

    Args:
        rows: at least one.
        wait_usd: price of letting a request wait for two answers, for a cap on their share.
        points: candidates at most.
    """
    known = rows.first if rows.second is None else rows.second
    marks = np.concatenate((known, rows.p_rungs.ravel()))
    marks = np.unique(np.quantile(marks, np.linspace(0.0, 1.0, points)))[::-1]
    order = np.argsort(rows.first, kind="stable")
    path = [always_top(rows.p_rungs.shape[1])]
    for mark in marks:
        price = float(rows.usd[:, -1].mean()) / max(1.0 - float(mark), 1e-6)
        found = _lowered(_candidate(rows, order, price, wait_usd), path[-1])
        if found != path[-1]:
            path.append(found)
    return path


def with_cap(rows: LadderRows, share: float, *, tries: int = 25) -> list[LadderThresholds]:
    """Return the path on which at most `share` of the rows wait for two answers, at every point."""
    low, high = 0.0, float(rows.usd[:, -1].mean()) * 64
    path = trace(rows)
    if _longest_wait(rows, path) <= share:
        return path
    for _ in range(tries):
        middle = (low + high) / 2
        is_held = _longest_wait(rows, trace(rows, wait_usd=middle)) <= share
        low, high = (low, middle) if is_held else (middle, high)
    return trace(rows, wait_usd=high)


def _longest_wait(rows: LadderRows, path: Sequence[LadderThresholds]) -> float:
    return max(float(point.climbed(rows).is_escalated.mean()) for point in path)


def _candidate(rows: LadderRows, order: Ints, price: float, wait_usd: float) -> LadderThresholds:
    """Return what is cheapest in expectation at one price of a worse answer."""
    t_rungs, beyond = _beyond(rows, price)
    known = rows.first if rows.second is None else rows.second
    weak = np.where(rows.unlike, beyond, rows.usd[:, 0] + price * (1.0 - known))
    t_accept = NEVER
    tried = weak
    if rows.second is not None:
        t_accept = _threshold(float((beyond - rows.usd[:, 0]).mean()), price)
        accepted = rows.second >= t_accept
        check = 0.0 if rows.check_usd is None else rows.check_usd
        tried = rows.usd[:, 0] + check + np.where(accepted, price * (1.0 - known), beyond + wait_usd)
        weak = np.where(rows.unlike, tried, weak)
        beyond = np.where(rows.unlike, tried, beyond)  # they are tried at every threshold of the first look
    first = rows.first[order]
    ends = np.concatenate(([0], np.flatnonzero(np.concatenate((first[1:] != first[:-1], [True]))) + 1))
    past, trying, at_once = (np.concatenate(([0.0], np.cumsum(one[order])))[ends] for one in (beyond, tried, weak))
    low, high = cuts(past, trying, at_once, ("weak", "strong") if rows.second is None else KINDS)
    return LadderThresholds(value_at(first, int(ends[low])), value_at(first, int(ends[high])), t_accept, t_rungs)


def _beyond(rows: LadderRows, price: float) -> tuple[tuple[float, ...], Floats]:
    """Return the thresholds of the rungs between, and (n,) the expected total of what goes past rung 0."""
    beyond, thresholds = rows.usd[:, -1], []
    for rung in range(rows.top - 1, 0, -1):
        p = rows.p_rungs[:, rung - 1]
        threshold = _threshold(float((beyond - rows.usd[:, rung]).mean()), price)
        takes = (p >= threshold) & ~rows.unlike
        beyond = np.where(takes, rows.usd[:, rung] + price * (1.0 - p), beyond)
        thresholds.append(threshold)
    return tuple(thresholds[::-1]), beyond


def _threshold(saved: float, price: float) -> float:
    """Return the p from which taking a rung pays, where it saves so much; `NEVER` where it saves nothing."""
    return max(0.0, 1.0 - saved / price) if saved > 0.0 else NEVER


def _lowered(found: LadderThresholds, before: LadderThresholds) -> LadderThresholds:
    return LadderThresholds(
        min(found.t_strong, before.t_strong),
        min(found.t_weak, before.t_weak),
        min(found.t_accept, before.t_accept),
        tuple(map(min, found.t_rungs, before.t_rungs)),
    )
