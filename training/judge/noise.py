"""Noise: what two judges' disagreement says of the labels, and the AUROC that no router can exceed on them.

The model: each judge is wrong with one probability on every row, whatever the truth and the other judges
(symmetric, independent noise). Judges that share their mistakes make the noise look smaller than it is, so
that the ceiling is an upper bound in practice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom
from sklearn.metrics import cohen_kappa_score


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """How far two judges agree on `match`.

    Attributes:
        first, second: their names.
        rows: judged by both.
        agreement: share of the rows on which they say the same.
        kappa: Cohen's kappa; None where one label is all that both gave.
    """

    first: str
    second: str
    rows: int
    agreement: float
    kappa: float | None


@dataclass(frozen=True, slots=True)
class NoiseCeiling:
    """What the agreement of the judges implies.

    Attributes:
        judge_noise: probability that one judge's label is wrong.
        label_noise: the same of the label they give together.
        match_rate: of the labels as given.
        auroc_ceiling: AUROC on these labels of a router that knows the truth.
    """

    judge_noise: float
    label_noise: float
    match_rate: float
    auroc_ceiling: float


def agreements(matches: dict[str, NDArray[np.float64]]) -> list[PairAgreement]:
    """Compare all judges, two by two.

    Args:
        matches: (n,) of 0, 1 and NaN (no label) by judge, rows in the same order.
    """
    found = []
    for (first, one), (second, two) in combinations(matches.items(), 2):
        both = ~np.isnan(one) & ~np.isnan(two)
        if both.any():
            agreement, kappa = compare(one[both], two[both])
            found.append(PairAgreement(first, second, int(both.sum()), agreement, kappa))
    return found


def compare(one: NDArray[np.float64], two: NDArray[np.float64]) -> tuple[float, float | None]:
    """Return agreement and Cohen's kappa of two (n,) arrays of 0 and 1; kappa is None where it is 0 / 0."""
    labels = np.unique(np.concatenate([one, two]))
    kappa = float(cohen_kappa_score(one.astype(int), two.astype(int))) if labels.size > 1 else None
    return float(np.mean(one == two)), kappa


def ceiling(pairs: Sequence[PairAgreement], n_judges: int, match_rate: float) -> NoiseCeiling:
    """Return the noise and the ceiling that agreement implies, the mean over pairs weighted by their rows.

    Two judges with noise r agree with probability r^2 + (1 - r)^2, hence r = (1 - sqrt(2 A - 1)) / 2; at
    A <= 1/2 nothing is left to know and r = 1/2.

    Raises:
        ValueError: there is no pair.
    """
    if not pairs:
        raise ValueError("the ceiling needs rows that two judges labelled")
    agreement = float(np.average([pair.agreement for pair in pairs], weights=[pair.rows for pair in pairs]))
    judge_noise = (1 - math.sqrt(max(0.0, 2 * agreement - 1))) / 2
    label_noise = vote_noise(judge_noise, n_judges)
    return NoiseCeiling(judge_noise, label_noise, match_rate, auroc_ceiling(match_rate, label_noise))


def vote_noise(judge_noise: float, n_judges: int) -> float:
    """Return how often a majority of judges is wrong; the first of them decides where it is even."""
    half = n_judges / 2
    wrong = float(binom.sf(math.floor(half), n_judges, judge_noise))
    if n_judges % 2 == 0:
        wrong += 0.5 * float(binom.pmf(n_judges // 2, n_judges, judge_noise))
    return wrong


def auroc_ceiling(match_rate: float, label_noise: float) -> float:
    """Return the AUROC of the truth against labels of which a share is flipped at random.

    With q = `match_rate` as labelled and r = `label_noise`, the true rate is p = (q - r) / (1 - 2 r), kept
    within [0, 1]. The truth takes two values, so AUROC = (1 + P(1 | labelled 1) - P(1 | labelled 0)) / 2, where
    P(1 | labelled 1) = p (1 - r) / q' and P(1 | labelled 0) = p r / (1 - q'), q' = p (1 - r) + (1 - p) r.
    No score does better: by Neyman and Pearson the best one orders rows by the odds of their label, and with
    noise that is independent of the row these take the same two values. 0.5 where one label is all there is.
    """
    if label_noise >= 0.5:
        return 0.5
    truth = min(1.0, max(0.0, (match_rate - label_noise) / (1 - 2 * label_noise)))
    labelled = truth * (1 - label_noise) + (1 - truth) * label_noise
    if truth in {0.0, 1.0} or not 0 < labelled < 1:
        return 0.5
    given_match = truth * (1 - label_noise) / labelled
    given_none = truth * label_noise / (1 - labelled)
    return 0.5 + (given_match - given_none) / 2
