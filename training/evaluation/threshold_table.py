"""Threshold table: what every threshold would do on the test part, for a person to choose from.

Comes in: `Outcomes`, and the cascade at any threshold. Goes out: `ThresholdTable`. The rows are those of the
figures, not those that the policies were solved on, so a bound holds for a threshold named beforehand: whoever
picks one by its bound has looked at many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.policy import Policy
from turnout.training.arrays import Floats
from turnout.training.dataset.outcomes import Outcomes
from turnout.training.evaluation import bootstrap
from turnout.training.evaluation.evaluation import ThresholdTable
from turnout.training.policy.guarantees import binomial_upper_bound
from turnout.training.policy.policy import DELTA, one_row_a_group

STEPS = 100
"""Thresholds lie where another 1 % of the rows goes weak."""

GRANULES = 1e6
"""They are rounded down to millionths: a threshold that is a row's own `p_match` would hang on its last bit."""


@dataclass(frozen=True, slots=True)
class ServedRows:
    """How the rows are served.

    Attributes:
        threshold: of the default policy: the one behind `Outcomes.p_match`.
        thresholds: of every policy.
        p_match_at: (n,) `p_match` of the cascade at a threshold, which places its exit band.
    """

    threshold: float
    thresholds: tuple[float, ...]
    p_match_at: Callable[[float], Floats]

    @classmethod
    def of(cls, policies: Sequence[Policy], default: str, p_match_at: Callable[[float], Floats]) -> ServedRows:
        """Return what the policies ask for; `default` names one of them."""
        threshold = next(policy.threshold for policy in policies if policy.name == default)
        return cls(threshold, tuple(policy.threshold for policy in policies), p_match_at)


def threshold_table(outcomes: Outcomes, served: ServedRows, *, seed: int, n_bootstraps: int) -> ThresholdTable:
    """Return the table, the policies' own thresholds among the others.

    Args:
        outcomes: the rows.
        served: how they are served.
        seed: of the bootstraps, and of the row drawn from each group.
        n_bootstraps: 0 for no band of the quality.
    """
    thresholds = _thresholds(outcomes.p_match, served)
    goes_weak = np.array([outcomes.goes_weak(served.p_match_at(one), one) for one in thresholds])
    order = np.argsort(goes_weak.mean(axis=1), kind="stable")  # the exit band moves: a share may step back a little
    thresholds, goes_weak = thresholds[order], goes_weak[order]
    worse = goes_weak & (outcomes.match == 0)
    drawn = one_row_a_group(outcomes.group, seed)
    routed = np.where(goes_weak, outcomes.weak_score, outcomes.strong_score)
    strong_mean = float(outcomes.strong_score.mean())
    band = _band(routed, outcomes, seed, n_bootstraps)
    return ThresholdTable(
        threshold=thresholds.tolist(),
        share_weak=goes_weak.mean(axis=1).tolist(),
        quality=(routed.mean(axis=1) / strong_mean).tolist() if strong_mean > 0 else None,
        quality_low=None if band is None else band[0].tolist(),
        quality_high=None if band is None else band[1].tolist(),
        share_worse=worse.mean(axis=1).tolist(),
        share_worse_bound=[binomial_upper_bound(int(row.sum()), drawn.size, DELTA) for row in worse[:, drawn]],
        delta=DELTA,
        n_draws=int(drawn.size),
    )


def _thresholds(p_match: Floats, served: ServedRows) -> Floats:
    """Return falling thresholds: nothing weak, every further percent of the rows, each policy's, everything weak."""
    grid = np.quantile(p_match, np.linspace(0.0, 1.0, STEPS + 1)[1:-1], method="lower")
    below = np.floor(grid * GRANULES) / GRANULES
    return np.unique([0.0, 1.0, *below, *served.thresholds, served.threshold])[::-1]


def _band(routed: Floats, outcomes: Outcomes, seed: int, n_bootstraps: int) -> NDArray[np.float64] | None:
    """(2, t) quality at every threshold under bootstraps of groups; None without them or without quality."""
    ratios = []
    for weights in bootstrap.group_draws(outcomes.group, seed, n_bootstraps):
        strong = float(weights @ outcomes.strong_score)
        if strong > 0:
            ratios.append(routed @ weights / strong)
    return np.quantile(np.array(ratios), bootstrap.TAILS, axis=0) if ratios else None
