"""Bounds hold as often as they say, whatever the draws look like."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from turnout.training.policy.guarantees import binomial_upper_bound, is_mean_shown_at_most

DELTA = 0.1
N_TRIALS = 1000
SPREAD = math.sqrt(DELTA * (1 - DELTA) / N_TRIALS)


def shown(draws: np.ndarray, limit: float, *, low: float = 0.0, high: float = 1.0) -> bool:
    return is_mean_shown_at_most(draws, limit, low=low, high=high, delta=DELTA)


def upper_bound(draws: np.ndarray) -> float:
    """Return the least limit on a grid of 1/1000 that the draws are shown to keep to."""
    return next(limit for limit in np.arange(0.0, 1.001, 0.001) if shown(draws, limit))


@given(n=st.integers(1, 5000), share=st.floats(0, 1), delta=st.sampled_from([0.01, 0.05, 0.1, 0.3]))
@settings(max_examples=200)
def test_binomial_bound_is_that_of_clopper_and_pearson(n: int, share: float, delta: float):
    events = int(share * n)
    exact = binomtest(events, n, alternative="less").proportion_ci(1 - delta, method="exact").high
    assert binomial_upper_bound(events, n, delta) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("n", [1, 10, 229, 4150])
def test_binomial_bound_without_events_is_the_hand_value(n: int):
    assert binomial_upper_bound(0, n, 0.1) == pytest.approx(1 - 0.1 ** (1 / n), rel=1e-12)


@pytest.mark.parametrize(("events", "draws"), [(0, 0), (5, 5)])
def test_binomial_bound_is_one_where_nothing_is_known(events: int, draws: int):
    assert binomial_upper_bound(events, draws, 0.1) == 1.0


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [30, 400])
def test_betting_is_wrong_in_no_more_bernoulli_draws_than_stated(share: float, n: int):
    draws = (np.random.default_rng(int(1000 * share) + n).random((N_TRIALS, n)) < share).astype(float)
    wrong = sum(shown(row, share - 1e-9) for row in draws)
    assert wrong / N_TRIALS <= DELTA + 2 * SPREAD


def test_betting_is_wrong_in_no_more_draws_than_stated_where_losses_are_rare_and_large():
    rng = np.random.default_rng(5)
    lost = rng.random((N_TRIALS, 400)) < 0.01
    draws = np.where(lost, 0.99, -0.01)  # mean 0: the strong model is right, and one row in a hundred is lost
    wrong = sum(shown(row, -1e-9, low=-1.0, high=0.99) for row in draws)
    assert wrong / N_TRIALS <= DELTA + 2 * SPREAD


def test_betting_beats_hoeffding_on_low_variance_and_keeps_above_the_mean():
    n = 1000
    hoeffding = math.sqrt(math.log(1 / DELTA) / (2 * n))
    for seed in range(20):
        draws = np.random.default_rng(seed).beta(2, 98, n)  # mean 0.02, standard deviation 0.014
        assert draws.mean() < upper_bound(draws) < draws.mean() + hoeffding / 3


def test_betting_comes_near_the_exact_bound_on_bernoulli_draws():
    n = 2000
    for seed in range(20):
        draws = (np.random.default_rng(seed).random(n) < 0.03).astype(float)
        exact = binomial_upper_bound(int(draws.sum()), n, DELTA) - draws.mean()
        assert upper_bound(draws) - draws.mean() < 2 * exact


def test_capital_grows_as_by_hand():
    # Ten draws of 0 against m = 1/2: the first bet is sqrt(2 ln 10 / (10 / 4)) = 1.36, held down to 0.5 / 0.5 = 1,
    # and so are all later ones, as the variance only falls: each draw multiplies by 1.5, and 1.5^6 = 11.4.
    assert shown(np.zeros(10), 0.5)
    assert shown(np.r_[np.zeros(6), np.ones(4)], 0.5)  # the maximum counts: four losses later it is below 1
    assert not shown(np.r_[np.zeros(5), np.ones(5)], 0.5)  # 1.5^5 = 7.6


@given(st.lists(st.floats(-1, 1), max_size=50), st.floats(-1, 1))
def test_a_mean_shown_below_a_limit_is_shown_whatever_the_scale(values: list[float], limit: float):
    draws = np.array(values)
    scaled = is_mean_shown_at_most(5 + 3 * draws, 5 + 3 * limit, low=2.0, high=8.0, delta=DELTA)
    if abs(limit) < 0.999:
        assert scaled == shown(draws, limit, low=-1.0, high=1.0)


def test_no_draws_show_nothing_and_the_upper_bound_itself_needs_no_proof():
    assert not shown(np.array([]), 0.5)
    assert shown(np.array([1.0]), 1.0)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_draws_outside_their_bounds_are_refused(value: float):
    with pytest.raises(ValueError, match=r"draws: expected \[0.0, 1.0\]"):
        shown(np.array([0.5, value]), 0.6)
