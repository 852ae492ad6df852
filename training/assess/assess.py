"""Assess: before any commitment, whether these logs are enough and what a router on them would be worth.

Comes in: a dataset and its features. Goes out: `Assessment`: what is usable, the learning curve, and
what would be saved.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.manifest import Pair
from turnout.training.assess.learning_curve import N_BOOTSTRAPS, curve_of, growing_fits
from turnout.training.dataset.costs import CostsUnknown, RequestCosts, request_costs
from turnout.training.dataset.dataset import Dataset
from turnout.training.dataset.splits import Part, split_groups
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.evaluation import bootstrap, metrics
from turnout.training.evaluation.evaluation import CurvePoint
from turnout.training.evaluation.metrics import Ranking
from turnout.training.offpolicy.savings.machine import Machine
from turnout.training.policy.default import carried
from turnout.training.progress import Reporter

KEPT_QUALITY = 0.99


class ExpectedSavings(msgspec.Struct, frozen=True):
    """What a router of the largest fit would save on the test part, at today's prices, the router paid for.

    It goes as far as `KEPT_QUALITY` of the strong model's mean score allows in hindsight: a policy with a promise
    stops earlier.

    Attributes:
        strong_usd_per_1k: USD of 1,000 requests that all go strong.
        saved_usd_per_1k: USD less for 1,000 requests; below 0 where the router costs more than it saves.
        interval: 95 % over groups, of the same; None where it is undefined.
    """

    strong_usd_per_1k: float
    saved_usd_per_1k: float
    interval: tuple[float, float] | None


class Assessment(msgspec.Struct, frozen=True):
    """What an operator should know before training.

    Attributes:
        labelled, groups, non_matches: usable rows, their groups, and rows with a worse weak answer.
        test_rows: rows that every point is measured on.
        curve: from the smallest size to the whole fit part.
        enough_rows: as in `LearningCurve`.
        carries: which promises so many rows can carry and how many more the next one needs, for people.
        savings: None where they can't be said.
        savings_unknown: why, for people; empty where they are known.
    """

    labelled: int
    groups: int
    non_matches: int
    test_rows: int
    match_rate: float
    curve: list[CurvePoint]
    enough_rows: int | None
    savings: ExpectedSavings | None = None
    savings_unknown: str = ""
    carries: str = ""


def assess(data: Dataset, table: FeatureTable, pair: Pair, *, seed: int, reporter: Reporter) -> Assessment:
    """Return the learning curve of the labelled rows and what follows from it."""
    part = split_groups(data.records, data.groups.group, seed)
    fits = growing_fits(data, table, part, seed=seed, reporter=reporter)
    found = curve_of(data, fits, seed=seed)
    costs = request_costs([data.records[row] for row in fits.test], pair)
    return Assessment(
        carries=carried(data.groups.n_groups),
        labelled=len(data.rows),
        groups=data.groups.n_groups,
        non_matches=int((data.match == 0).sum()),
        test_rows=int((part == Part.TEST).sum()),
        match_rate=float(data.match.mean()),
        curve=found.points,
        enough_rows=found.enough_rows,
        savings=None
        if isinstance(costs, CostsUnknown)
        else _expected_savings(data, fits.test, fits.log_odds[-1], costs, seed),
        savings_unknown=costs.reason if isinstance(costs, CostsUnknown) else "",
    )


def _expected_savings(
    data: Dataset, test: NDArray[np.int64], log_odds: NDArray[np.float64], costs: RequestCosts, seed: int
) -> ExpectedSavings | None:
    """Return what the ranking saves at `KEPT_QUALITY`; None where no request has a strong score above 0."""
    ranking, known = Ranking.of(log_odds), costs.is_known.astype(np.float64)
    strong_usd, weak_usd = np.nan_to_num(costs.strong), np.nan_to_num(costs.weak)
    router_usd = Machine().usd_per_decision

    def saved(weights: NDArray[np.float64]) -> float | None:
        scores = metrics.quality_curve(ranking, data.strong_score[test], data.weak_score[test], weights)
        share_weak = metrics.share_at_quality(scores, KEPT_QUALITY)
        if share_weak is None or not weights @ known:
            return None
        # rows of unknown cost count as the mean of the others: they saved and cost nothing in the sums below
        spared = metrics.quality_curve(ranking, np.zeros(test.size), strong_usd - weak_usd, weights)
        usd = float(spared.at(np.array([1.0 - share_weak]))[0]) * float(weights.sum() / (weights @ known))
        return 1000.0 * (usd - router_usd)

    everything = saved(np.ones(test.size))
    if everything is None:
        return None
    draws = [saved(weights) for weights in bootstrap.group_draws(data.groups.group[test], seed, N_BOOTSTRAPS)]
    strong = costs.usd_per_1k(np.zeros(test.size, dtype=bool))
    return ExpectedSavings(strong, everything, bootstrap.interval("saved", everything, draws))
