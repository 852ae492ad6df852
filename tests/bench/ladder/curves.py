"""Curves: what a way of routing costs and keeps, point by point, with intervals over groups.

Comes in: for each point, what every row costs and scores. Goes out: the cost at a kept quality, and AIQ as RouterBench
defines it (Hu et al. 2024): the mean score under the non-decreasing convex hull over the range of costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from turnout.training.policy.ladder import LadderRows, LadderThresholds


@dataclass(frozen=True)
class Way:
    """One way of routing: (points, n) float32 USD and score of each row."""

    name: str
    usd: np.ndarray
    score: np.ndarray

    @classmethod
    def of_path(
        cls, name: str, rows: LadderRows, path: Sequence[LadderThresholds], score: np.ndarray | None = None
    ) -> Way:
        """Return the way of a path; `score` and costs of the rows' own columns."""
        climbed = [point.climbed(rows) for point in path]
        values = rows.score if score is None else score
        return cls(
            name,
            np.array([point.usd(rows) for point in path], np.float32),
            np.array([one.of(values) for one in climbed], np.float32),
        )

    def means(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (points, draws) mean cost and score under (n, draws) weights."""
        total = weights.sum(axis=0)
        return self.usd @ weights / total, self.score @ weights / total


def group_weights(group: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Return (n, 1 + draws) float32: all rows once, then how often each row's group was drawn."""
    names, number = np.unique(group, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = [np.bincount(rng.integers(0, names.size, names.size), minlength=names.size) for _ in range(draws)]
    return np.column_stack([np.ones(names.size), *drawn])[number].astype(np.float32)


def cost_at(usd: np.ndarray, score: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return (draws,) the lowest cost of a point that keeps the wanted score; NaN where none does."""
    kept = np.where(score >= wanted, usd, np.inf).min(axis=0)
    return np.where(np.isfinite(kept), kept, np.nan)


def aiq(usd: np.ndarray, score: np.ndarray, low: float, high: float, worst: float) -> float:
    """Return the mean score from a cost `low` to `high` under the non-decreasing convex hull of (m,) points.

    The cheapest model alone (cost `low`, score `worst`) belongs to every way, as RouterBench begins every hull there.
    """
    points = sorted({(low, worst), *zip(usd.tolist(), score.tolist(), strict=True)})
    hull: list[tuple[float, float]] = []
    for point in points:
        if hull and point[1] <= hull[-1][1]:
            continue  # costs more and is no better
        while len(hull) > 1 and _turn(hull[-2], hull[-1], point) >= 0:
            hull.pop()
        hull.append(point)
    x, y = np.array(hull).T
    grid = np.linspace(low, high, 2001)
    return float(np.interp(grid, x, y).mean())


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def shown(name: str, values: np.ndarray, digits: int = 3) -> str:
    """Return a point with its 95 % interval; the first value is the point."""
    draws = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or draws.size < 0.9 * (values.size - 1):
        return f"{name}: not reached"
    low, high = np.quantile(draws, (0.025, 0.975))
    return f"{name}: {values[0]:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
