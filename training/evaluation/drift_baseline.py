"""Drift baseline: how `p_match` and the structural measures are spread on the test part.

Comes in: `Outcomes`. Goes out: one `Distribution` a number, kept in the bundle's evaluation, for live traffic to be
held against: a mean that leaves the middle half of the test part is the earliest sign of other traffic.
"""

from __future__ import annotations

import numpy as np

from turnout.serving.router.features import STRUCTURAL
from turnout.training.arrays import Floats
from turnout.training.dataset.outcomes import Outcomes
from turnout.training.evaluation.evaluation import Distribution

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
N_BINS = 24
TAILS = (0.01, 0.99)
"""Rows beyond count in the outermost bins: one odd prompt would else squeeze all others into one bin."""


MIN_TASK_ROWS = 100
"""On fewer, chance alone takes the PSI of ten bins beyond 0.3."""


def drift_baseline(outcomes: Outcomes) -> list[Distribution]:
    """Return the distribution of `p_match`, then of each structural measure where they are known."""
    found = [distribution("p_match", outcomes.p_match)]
    if outcomes.structural is not None:
        columns = outcomes.structural.astype(np.float64).T
        found += [distribution(name, column) for name, column in zip(STRUCTURAL, columns, strict=True)]
    return found


def p_match_by_task(outcomes: Outcomes) -> dict[str, Distribution]:
    """Return the distribution of `p_match` on each named task with `MIN_TASK_ROWS` or more."""
    task = np.asarray(outcomes.task)
    names, n = np.unique(task, return_counts=True)
    wanted = [str(name) for name in names[n >= MIN_TASK_ROWS] if name]
    return {name: distribution("p_match", outcomes.p_match[task == name]) for name in wanted}


def distribution(name: str, values: Floats) -> Distribution:
    """Return how (n,) values are spread; a single value gets one bin that begins and ends there."""
    low, high = np.quantile(values, TAILS)
    if low == high:  # but for a few rows it never varies
        low, high = values.min(), values.max()
    edges = np.linspace(low, high, N_BINS + 1) if high > low else np.array([low, low])
    n = np.histogram(np.clip(values, low, high), edges)[0] if high > low else np.array([values.size])
    return Distribution(
        name=name,
        mean=float(values.mean()),
        sd=float(values.std()),
        quantiles=np.quantile(values, QUANTILES).tolist(),
        edges=edges.tolist(),
        n=n.tolist(),
    )
