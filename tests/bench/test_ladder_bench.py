"""The bench of ladders counts as it says: AIQ by hand, costs at a kept score, promises of a known world."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench.ladder.curves import Way, aiq, cost_at, group_weights
from tests.bench.ladder.redraws import held_fixed
from tests.training.test_ladder_policy import draw
from turnout.training.policy.ladder_path import trace


def test_aiq_is_the_mean_under_the_non_decreasing_convex_hull():
    usd, score = np.array([1.0, 2.0, 3.0, 5.0]), np.array([0.5, 0.6, 0.9, 0.8])
    # the hull goes from (1, 0.5) straight to (3, 0.9) and stays there: (0.7 * 2 + 0.9 * 2) / 4
    assert aiq(usd, score, 1.0, 5.0, 0.5) == pytest.approx(0.8, abs=1e-3)
    assert aiq(usd[1:2], score[1:2], 1.0, 5.0, 0.6) == pytest.approx(0.6)


def test_cost_at_a_kept_score_is_that_of_the_cheapest_point():
    usd, score = np.array([[3.0, 3.0], [1.0, 1.0], [2.0, 2.0]]), np.array([[1.0, 1.0], [0.5, 0.95], [0.9, 0.9]])
    assert cost_at(usd, score, np.array([0.9, 0.9])).tolist() == [2.0, 1.0]
    assert np.isnan(cost_at(usd, score, np.array([1.5, 0.9]))[0])


def test_draws_of_groups_keep_groups_whole():
    group = np.array([0, 0, 1, 2, 2, 2])
    weights = group_weights(group, 50, 0)
    assert (weights[:, 0] == 1).all()
    assert all((weights[group == one] == weights[group == one][0]).all() for one in range(3))
    assert (weights[[0, 2, 3]].sum(axis=0) == 3).all()


def test_promises_of_a_known_world_break_as_seldom_as_they_say():
    rows = draw(6000, 31)
    way = Way.of_path("ladder", rows, trace(rows))
    assert way.usd.shape == way.score.shape
    assert way.usd[0].mean() == pytest.approx(rows.usd[:, -1].mean(), rel=1e-5)
    found = held_fixed(rows, 40, 1500)
    for kept in found.values():
        assert len(kept.broken) == 40
        assert sum(kept.broken) <= 9  # 4 are allowed; 10 or more of 40 have probability 0.006 at 10 %
    assert np.mean(found["max_worse=0.05"].below) > 0.2
