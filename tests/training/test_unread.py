"""Promises over three actions hold where the log lacks answers of the weak model, by chance and by design."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.training.test_check import looked_at
from turnout.training.arrays import Bools
from turnout.training.policy.three_actions import LookedAt, max_worse, min_quality, trace_path
from turnout.training.policy.unread import testable as rows_to_test_on

TARGET = 0.05
N_DRAWS = 40

Known = Callable[[LookedAt, int], Bools]


def by_chance(rows: LookedAt, seed: int) -> Bools:
    return np.random.default_rng(seed).random(rows.first.size) >= 0.2


def of_the_middle(rows: LookedAt, _: int) -> Bools:
    return (rows.first >= 0.6) & (rows.first < 0.9)


def logged(rows: LookedAt, known: Known, seed: int) -> LookedAt:
    """Return rows as a log has them that lacks answers."""
    return replace(rows, second=np.where(known(rows, seed), rows.second, -1.0))


def to_test_on(rows: LookedAt, known: Known, seed: int) -> LookedAt:
    everyone, likes = np.arange(rows.first.size), np.zeros(rows.first.size, dtype=bool)
    tests = rows_to_test_on(rows.first, likes, known(rows, seed), everyone, seed)
    return replace(logged(rows, known, seed).take(tests.rows), is_unread=tests.is_unread)


def broken(known: Known, made: Callable[[LookedAt, Known, int], LookedAt]) -> int:
    """Return in how many draws the promise is broken on all traffic, whose answers are all read."""
    population = looked_at(100_000, 99)
    n = 0
    for draw in range(N_DRAWS):
        path = trace_path(logged(looked_at(1500, 2 * draw), known, draw), points=100)
        thresholds = max_worse(made(looked_at(3000, 2 * draw + 1), known, 1000 + draw), path, TARGET, 0).thresholds
        n += bool((thresholds.answered_weak(population) & (population.match == 0)).mean() > TARGET)
    return n


@pytest.mark.parametrize("known", [by_chance, of_the_middle])
def test_promise_holds_where_answers_lack(known: Known):
    assert broken(known, to_test_on) <= 9  # of 40 at level 0.1: more has a chance of 1 in 100


@pytest.mark.parametrize("known", [by_chance, of_the_middle])
def test_counting_them_as_escalated_would_break_it(known: Known):
    """Else the test above would hold whatever is done."""
    assert broken(known, logged) > 15


def test_quality_is_kept_where_answers_lack_by_design():
    rows = to_test_on(looked_at(3000, 5), of_the_middle, 6)
    path = trace_path(logged(looked_at(1500, 4), of_the_middle, 7), points=100)
    thresholds = min_quality(rows, path, 0.98, 0).thresholds
    population = looked_at(100_000, 99)
    lost = (population.strong_score - population.weak_score) * thresholds.answered_weak(population)
    assert lost.mean() < 0.02


def test_where_all_answers_are_there_every_row_tests():
    rows, some = looked_at(500, 1), np.array([3, 3, 1, 499])
    tests = rows_to_test_on(rows.first, rows.first < 0.1, np.ones(500, dtype=bool), some, 0)
    assert tests.rows.tolist() == some.tolist()
    assert not tests.is_unread.any()


def test_rows_that_stand_for_others_are_drawn_as_the_traffic_is():
    rows = looked_at(20_000, 2)
    known = np.random.default_rng(3).random(20_000) < np.where(rows.first > 0.8, 0.9, 0.8)
    tests = rows_to_test_on(rows.first, np.zeros(20_000, dtype=bool), known, np.arange(20_000), 4)
    assert not tests.is_unread.any()
    assert known[tests.rows].all()
    assert tests.rows.size == pytest.approx(0.8 * 20_000, rel=0.05)
    assert (rows.first[tests.rows] > 0.8).mean() == pytest.approx((rows.first > 0.8).mean(), abs=0.015)


def test_strangers_whose_answers_lack_are_no_familiar_rows_affair():
    rows = looked_at(4000, 8)
    strange = np.arange(4000) % 10 == 0
    tests = rows_to_test_on(rows.first, strange, ~strange, np.arange(4000), 9)
    assert (strange[tests.rows] == tests.is_unread).all()
    assert tests.is_unread.mean() == pytest.approx(0.1, abs=0.02)
