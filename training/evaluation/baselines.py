"""Rankers that a router must beat.

Comes in: the rows of the test split (and of the fit split, for the one that learns). Goes out: one
number a row, higher where the weak model is to be used sooner, as `p_match` is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from turnout.training.arrays import Floats, Ints


@dataclass(frozen=True, slots=True)
class BaselineRanking:
    """A ranking of the rows.

    Attributes:
        rank_by: (n,) higher goes to the weak model sooner; equal values count as the mean over orders.
        is_probability: whether `rank_by` claims to be a probability of `match`, so that it can be calibrated.
    """

    rank_by: Floats
    is_probability: bool


def always_weak(n: int) -> BaselineRanking:
    """Every request to the weak model, `p_match` 1: no ranking, so its curve is that of `random`."""
    return BaselineRanking(np.ones(n), is_probability=True)


def always_strong(n: int) -> BaselineRanking:
    """Every request to the strong model, `p_match` 0: no ranking, so its curve is that of `random`."""
    return BaselineRanking(np.zeros(n), is_probability=True)


def random(match: Ints) -> BaselineRanking:
    """A coin, in expectation: a ranking only. As a probability it would be the match rate of these very rows."""
    return BaselineRanking(np.full(len(match), float(np.mean(match))), is_probability=False)


def prompt_length(length: Floats) -> BaselineRanking:
    """Short prompts to the weak model first; `length` (n,) in any unit."""
    return BaselineRanking(-length, is_probability=False)


def oracle(strong_score: Floats, weak_score: Floats) -> BaselineRanking:
    """The strong model exactly where it helps, which nobody knows beforehand: the upper limit of any router."""
    return BaselineRanking(weak_score - strong_score, is_probability=False)


def standard_baselines(
    match: Ints, strong_score: Floats, weak_score: Floats, length: Floats
) -> dict[str, BaselineRanking]:
    """Return the baselines of every evaluation by name; all arrays (n,), `length` that of the prompts."""
    return {
        "always_weak": always_weak(len(match)),
        "always_strong": always_strong(len(match)),
        "random": random(match),
        "prompt_length": prompt_length(length),
        "oracle": oracle(strong_score, weak_score),
    }


def dense_logistic_baseline(
    fit_vectors: NDArray[np.floating], fit_match: Ints, test_vectors: NDArray[np.floating]
) -> Floats:
    """`p_match` (m,) of a plain logistic regression on sentence vectors, the usual "MiniLM + LR".

    Args:
        fit_vectors: (n, d), as the encoder gave them, not standardised.
        fit_match: (n,) 0 or 1; with one class only, that class is the answer for every row.
        test_vectors: (m, d).
    """
    classes = np.unique(fit_match)
    if len(classes) == 1:
        return np.full(len(test_vectors), float(classes[0]))
    model = LogisticRegression(C=1.0, solver="lbfgs", max_iter=1000).fit(fit_vectors, fit_match)
    return np.asarray(model.predict_proba(test_vectors)[:, 1], dtype=np.float64)
