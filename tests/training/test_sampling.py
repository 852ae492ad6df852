"""Sampling for replay: sizes and probabilities are what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.training.replay.sampling import draw, scaled, task_shares, uncertainty_shares, uniform_shares

WEIGHTS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=60).map(np.array)


@given(weights=WEIGHTS, size=st.integers(1, 80))
def test_shares_are_probabilities_that_sum_to_the_size(weights, size):
    shares = scaled(weights, size)
    assert ((shares > 0) & (shares <= 1)).all()
    assert shares.sum() == pytest.approx(min(size, weights.size))
    below = shares < 1
    if below.any():
        assert np.ptp(shares[below] / weights[below]) <= 1e-9 * (shares[below] / weights[below]).max()


@given(weights=WEIGHTS, size=st.integers(1, 80), seed=st.integers(0, 99))
def test_sample_has_its_size_without_repetition_and_repeats_with_its_seed(weights, size, seed):
    shares = scaled(weights, size)
    drawn = draw(shares, [""] * weights.size, seed)
    assert len(drawn) == len(set(drawn)) == min(size, weights.size)
    assert set(np.flatnonzero(shares >= 1 - 1e-12)) <= set(drawn)
    assert (drawn == draw(shares, [""] * weights.size, seed)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "shares",
    [
        uniform_shares(20, 7),
        task_shares(["a"] * 14 + ["b"] * 4 + ["c"] * 2, 9),
        uncertainty_shares(np.linspace(0.01, 0.99, 20), 6),
        scaled(np.arange(1.0, 21.0), 10),
    ],
)
def test_rows_are_drawn_as_often_as_their_probability_says(shares):
    draws = 20_000
    hits = np.zeros(shares.size)
    for seed in range(draws):
        hits[draw(shares, [""] * shares.size, seed)] += 1
    error = np.sqrt(shares * (1 - shares) / draws)
    assert (np.abs(hits / draws - shares) <= 4.5 * error + 1e-12).all()


@given(seed=st.integers(0, 10_000))
def test_weighted_sum_over_a_sample_estimates_the_sum_over_all(seed):
    """Each stratum gets its own number of rows, so that by task the estimate of its size is exact."""
    tasks = ["a"] * 50 + ["b"] * 10 + ["c"] * 40
    shares = task_shares(tasks, 30)
    drawn = draw(shares, tasks, seed)
    for task, rows in (("a", 50), ("b", 10), ("c", 40)):
        of_task = [row for row in drawn if tasks[row] == task]
        assert len(of_task) == 10
        assert sum(1 / shares[row] for row in of_task) == pytest.approx(rows)


def test_small_tasks_are_taken_whole_and_the_others_share_the_rest():
    tasks = ["rare"] * 3 + ["common"] * 100
    shares = task_shares(tasks, 23)
    assert shares[:3].tolist() == [1.0] * 3
    assert shares[3:].tolist() == pytest.approx([0.2] * 100)


def test_uncertain_rows_are_drawn_more_often_and_certain_ones_still_sometimes():
    shares = uncertainty_shares(np.array([0.5] * 50 + [0.999] * 50 + [np.nan] * 10), 22)
    assert shares[0] > 5 * shares[50] > 0
    assert shares[-1] > 0.2 * 22 / 110 * 0.9


def test_a_bundle_that_is_certain_of_everything_gives_an_even_sample():
    assert uncertainty_shares(np.zeros(10), 4).tolist() == pytest.approx([0.4] * 10)
