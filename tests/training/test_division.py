"""Division of rows for a retraining: the test is fresh, whole, and later than all that is learned from."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from turnout.training.dataset.splits import Part
from turnout.training.retrain.division import LEFT_OUT, divide


@st.composite
def rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return group, moment and whether it is known, of up to 200 rows."""
    n, seed = draw(st.integers(20, 200)), draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    group = np.unique(rng.integers(0, max(2, n // 3), n), return_inverse=True)[1]
    return group, rng.uniform(0, 1e6, n), rng.random(n) < draw(st.floats(0, 0.4))


@given(rows=rows(), share=st.floats(0.1, 0.9))
def test_every_row_of_the_test_is_fresh_and_later_than_what_is_learned(rows: tuple, share: float):
    group, created, is_known = rows
    division = divide(group, created, is_known, test_share=share, seed=0)
    test, learned = division.part == Part.TEST, np.isin(division.part, (Part.FIT, Part.POLICY))
    assert division.is_later
    assert not set(group[test]) & set(group[is_known])
    assert not set(group[test]) & set(group[learned])
    if test.any() and learned.any():
        assert created[test].min() > created[learned].max()


@given(rows=rows(), share=st.floats(0.1, 0.9))
def test_without_moments_whole_groups_are_drawn_and_none_left_out(rows: tuple, share: float):
    group, created, is_known = rows
    created = np.where(np.arange(group.size) == 3, np.nan, created)
    division = divide(group, created, is_known, test_share=share, seed=4)
    assert not division.is_later
    assert LEFT_OUT not in division.part
    for one in np.unique(group):
        assert np.unique(division.part[group == one]).size == 1
    n_fresh = np.setdiff1d(group, group[is_known]).size
    assert np.unique(group[division.part == Part.TEST]).size == int(share * n_fresh)
    again = divide(group, created, is_known, test_share=share, seed=4)
    assert np.array_equal(again.part, division.part)


def test_policies_are_solved_on_as_much_of_the_new_as_of_the_old():
    group, created = np.arange(100), np.arange(100.0)
    part = divide(group, created, created < 40, test_share=0.6, seed=0).part
    assert np.flatnonzero(part == Part.TEST).tolist() == list(range(64, 100))
    assert (part[:40] == Part.POLICY).sum() == 5
    assert (part[40:64] == Part.POLICY).sum() == 3
    assert np.isin(part[:64], (Part.FIT, Part.POLICY)).all()


def test_rows_seen_before_and_made_after_the_test_began_are_left_out():
    created = np.arange(10.0)
    is_known = np.array([True] * 4 + [False] * 5 + [True])
    part = divide(np.arange(10), created, is_known, test_share=0.5, seed=0).part
    assert part[9] == LEFT_OUT
    assert np.flatnonzero(part == Part.TEST).tolist() == [7, 8]
