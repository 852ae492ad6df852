"""Estimators: the mean outcome that a policy would have had, from rows that another one decided on.

Comes in: what was observed, how probable that was, and an outcome model. Goes out: estimates with 95 % intervals that
cluster by session. Inverse propensity (Horvitz and Thompson 1952), self-normalised (Hajek 1971; Swaminathan and
Joachims 2015), doubly robust (Dudik, Langford and Li 2011, section 3).

Each is a mean, or a ratio of means, over sessions; its interval is that of the linearised sum over sessions (Cameron
and Miller 2015, "A practitioner's guide to cluster-robust inference"), with Student's t.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from scipy import stats

from turnout.training.arrays import Bools, Floats, Ints

CONFIDENCE = 0.95


class Estimate(msgspec.Struct, frozen=True):
    """A value with the ends of its 95 % interval; those are None where there are fewer than two sessions."""

    value: float
    low: float | None
    high: float | None

    def times(self, factor: float) -> Estimate:
        """Return the same in another unit; `factor` is above 0."""
        return Estimate(
            self.value * factor,
            None if self.low is None else self.low * factor,
            None if self.high is None else self.high * factor,
        )


class Estimates(msgspec.Struct, frozen=True):
    """One figure by all three estimators; None where nothing was observed that it could be made of."""

    ips: Estimate | None
    snips: Estimate | None
    dr: Estimate | None

    def times(self, factor: float) -> Estimates:
        """Return the same in another unit; `factor` is above 0."""
        found = [None if one is None else one.times(factor) for one in (self.ips, self.snips, self.dr)]
        return Estimates(*found)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the estimators read of one policy, (n,).

    Attributes:
        session: rows with the same number are one draw.
        weight: 1 / probability that the policy's answer is known, where it is; else 0.
        outcome: of that answer; any number where the weight is 0.
        predicted: what the outcome model says of the policy's answer.
    """

    session: Ints
    weight: Floats
    outcome: Floats
    predicted: Floats

    @property
    def effective_rows(self) -> float:
        """Rows of equal weight that would say as much (Kish)."""
        total = float(np.square(self.weight).sum())
        return float(self.weight.sum()) ** 2 / total if total > 0 else 0.0


def sample(
    session: Ints, outcome: Floats, asked: Bools, propensity: Floats, takes_weak: Bools, predicted: Floats
) -> Sample:
    """Return the sample of a policy.

    Not every answer that was asked for has an outcome. Which ones do is taken as chance, the same for all answers of
    a tier: their share is a factor of the propensity.

    Args:
        session: (n,) rows that share their draws.
        outcome: (n, 2) of each answer; NaN where unknown.
        asked: (n, 2) whether it was asked for.
        propensity: (n, 2) probability of that, above 0 at the policy's tier.
        takes_weak: (n,) where the policy sends a row.
        predicted: (n, 2) by the outcome model.
    """
    return sample_at(session, outcome, asked, propensity, np.where(takes_weak, 0, 1), predicted)


def sample_at(
    session: Ints, outcome: Floats, asked: Bools, propensity: Floats, column: Ints, predicted: Floats
) -> Sample:
    """Return the sample of a policy as `sample`, over any number k of answers: `column`, (n,), is the one it takes."""
    known = asked & ~np.isnan(outcome)
    share_known = known.sum(axis=0) / np.maximum(asked.sum(axis=0), 1)
    at = np.arange(len(column)), column
    is_known = known[at]
    probability = propensity[at] * share_known[column]
    weight = np.divide(1.0, probability, out=np.zeros(len(column)), where=is_known)
    return Sample(session, weight, np.where(is_known, outcome[at], 0.0), predicted[at])


def estimates(of: Sample) -> Estimates:
    """Return the mean outcome by all three estimators."""
    if not of.weight.any():
        return Estimates(None, None, None)
    return Estimates(
        ips=mean(of.weight * of.outcome, of.session),
        snips=ratio(of.weight * of.outcome, of.weight, of.session),
        dr=mean(robust_terms(of), of.session),
    )


def robust_terms(of: Sample) -> Floats:
    """Return (n,) the terms whose mean is the doubly robust estimate: the prediction, corrected where it is known."""
    return np.asarray(of.predicted + of.weight * (of.outcome - of.predicted))


def mean(terms: Floats, session: Ints) -> Estimate:
    """Return the mean of (n,) terms."""
    return ratio(terms, np.ones_like(terms), session)


def ratio(numerator: Floats, denominator: Floats, session: Ints) -> Estimate:
    """Return the sum of (n,) numerators over that of (n,) denominators, which is above 0."""
    total = float(denominator.sum())
    value = float(numerator.sum()) / total
    _, codes = np.unique(session, return_inverse=True)
    by_session = np.bincount(codes, weights=numerator - value * denominator)
    n = len(by_session)
    if n < 2:
        return Estimate(value, None, None)
    error = float(np.sqrt(n / (n - 1) * np.square(by_session).sum())) / total
    margin = float(stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)) * error
    return Estimate(value, value - margin, value + margin)
