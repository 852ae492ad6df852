"""Losses of rows, and the paired comparison that selection, the learning curve and the frontier rest on."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.training.evaluation.metrics import log_loss
from turnout.training.fit.losses import paired_excess, row_losses


def test_mean_of_the_row_losses_is_the_log_loss():
    rng = np.random.default_rng(5)
    log_odds, match = rng.normal(size=300), rng.integers(0, 2, 300)
    assert row_losses(log_odds, match).mean() == pytest.approx(log_loss(1 / (1 + np.exp(-log_odds)), match))


def test_large_log_odds_stay_finite():
    assert row_losses(np.array([800.0, -800.0]), np.array([0, 1])).tolist() == [800.0, 800.0]


def test_excess_is_the_mean_difference_and_its_error_counts_groups_once():
    rng = np.random.default_rng(3)
    loss, reference = rng.random(400), rng.random(400)
    excess, error = paired_excess(loss, reference, np.arange(400))
    difference = loss - reference
    assert excess == pytest.approx(difference.mean())
    assert error == pytest.approx(difference.std() / np.sqrt(400))
    twice, same_error = paired_excess(np.repeat(loss, 2), np.repeat(reference, 2), np.repeat(np.arange(400), 2))
    assert (twice, same_error) == pytest.approx((excess, error))
