"""Noise and ceiling of judged labels, against simulation and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from turnout.training.judge.noise import agreements, auroc_ceiling, ceiling, compare, vote_noise

N = 200_000


def flipped(truth, noise, generator):
    return np.where(generator.random(truth.size) < noise, 1 - truth, truth)


@pytest.mark.parametrize("noise", [0.0, 0.03, 0.1, 0.25])
@pytest.mark.parametrize("true_rate", [0.1, 0.5, 0.85])
def test_ceiling_is_the_auroc_of_the_truth_on_noisy_labels(noise, true_rate):
    generator = np.random.default_rng(1)
    truth = (generator.random(N) < true_rate).astype(float)
    labels = flipped(truth, noise, generator)
    assert auroc_ceiling(labels.mean(), noise) == pytest.approx(roc_auc_score(labels, truth), abs=0.006)


def test_no_score_that_knows_more_than_the_truth_exceeds_the_ceiling():
    """Scores that order rows within the truth at random gain nothing, as Neyman and Pearson say."""
    generator = np.random.default_rng(2)
    truth = (generator.random(N) < 0.7).astype(float)
    labels = flipped(truth, 0.15, generator)
    bound = auroc_ceiling(labels.mean(), 0.15)
    for spread in (0.1, 0.5, 2.0):
        assert roc_auc_score(labels, truth + spread * generator.random(N)) <= bound + 0.006


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("n_judges", [2, 3, 4])
def test_noise_is_recovered_from_the_agreement_of_independent_judges(noise, n_judges):
    generator = np.random.default_rng(3)
    truth = (generator.random(N) < 0.8).astype(float)
    votes = np.array([flipped(truth, noise, generator) for _ in range(n_judges)])
    majority = np.where(2 * votes.sum(0) == n_judges, votes[0], 2 * votes.sum(0) > n_judges)
    found = ceiling(agreements(dict(enumerate(votes))), n_judges, float(majority.mean()))
    assert found.judge_noise == pytest.approx(noise, abs=0.005)
    assert found.label_noise == pytest.approx(float(np.mean(majority != truth)), abs=0.005)
    assert found.auroc_ceiling == pytest.approx(roc_auc_score(majority, truth), abs=0.02)


def test_judges_that_agree_no_more_than_by_chance_leave_nothing_to_learn():
    generator = np.random.default_rng(4)
    votes = {name: (generator.random(N) < 0.5).astype(float) for name in "ab"}
    assert ceiling(agreements(votes), 2, 0.5).auroc_ceiling == pytest.approx(0.5, abs=0.05)
    opposed = {"a": np.array([0.0, 1.0]), "b": np.array([1.0, 0.0])}
    assert ceiling(agreements(opposed), 2, 0.5).judge_noise == 0.5


@given(noise=st.floats(0, 0.49), rate=st.floats(0, 1))
def test_ceiling_lies_between_chance_and_certainty_and_falls_with_noise(noise, rate):
    bound = auroc_ceiling(rate, noise)
    assert 0.5 <= bound <= 1
    truth = 0.6
    rates = [truth * (1 - r) + (1 - truth) * r for r in (noise, min(0.49, noise + 0.05))]
    assert auroc_ceiling(rates[1], min(0.49, noise + 0.05)) <= auroc_ceiling(rates[0], noise) + 1e-9


@given(noise=st.just(0.0) | st.floats(1e-9, 0.5), n=st.integers(1, 9))
def test_a_vote_is_never_noisier_than_one_judge(noise, n):
    assert vote_noise(noise, n) <= noise + 1e-12
    assert vote_noise(noise, 1) == pytest.approx(noise)
    assert vote_noise(noise, 2) == pytest.approx(noise)
    assert vote_noise(noise, 3) == pytest.approx(3 * noise**2 * (1 - noise) + noise**3)


def test_kappa_as_computed_by_hand():
    """Of 50 rows 20 are called 1 by both, 15 by neither: agreement 0.7, by chance 0.5, kappa 0.4 (Cohen 1960)."""
    one = np.array([1] * 20 + [1] * 5 + [0] * 10 + [0] * 15, dtype=float)
    two = np.array([1] * 20 + [0] * 5 + [1] * 10 + [0] * 15, dtype=float)
    assert compare(one, two) == (pytest.approx(0.7), pytest.approx(0.4))


def test_kappa_is_undefined_where_one_label_is_all_there_is():
    assert compare(np.ones(4), np.ones(4)) == (1.0, None)


def test_rows_that_one_judge_left_out_are_not_compared():
    pairs = agreements({"a": np.array([1, 0, np.nan, 1]), "b": np.array([1, 1, 1, np.nan])})
    assert [(pair.rows, pair.agreement) for pair in pairs] == [(2, 0.5)]
    assert agreements({"a": np.array([np.nan]), "b": np.array([1.0])}) == []
    with pytest.raises(ValueError, match="two judges"):
        ceiling([], 2, 0.5)
