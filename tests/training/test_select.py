"""Selection takes what is better; of what can't be told apart, what an order set beforehand names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from turnout.serving.router.features import N_BUCKETS, STRUCTURAL
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.fit.fit import FitSettings
from turnout.training.fit.losses import row_losses
from turnout.training.fit.out_of_fold import LessonRows, out_of_fold
from turnout.training.fit.select import C_GRID, candidates_of, choose, within_one_error

N = 300


@pytest.fixture
def angle() -> np.ndarray:
    return np.random.default_rng(2).uniform(0, 2 * np.pi, N)


@pytest.fixture
def table(angle: np.ndarray) -> FeatureTable:
    """Return features that say the angle, by the dense part alone."""
    dense = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    nothing = csr_matrix((N, N_BUCKETS), dtype=np.float32)
    return FeatureTable(nothing, np.zeros((N, len(STRUCTURAL)), dtype=np.float32), dense)


def chosen(table: FeatureTable, outcome: np.ndarray, *, wide: bool = False) -> FitSettings:
    match = (outcome != 1).astype(np.int64)
    targets = {"four_outcomes": outcome, "binary": match}
    return out_of_fold(
        LessonRows(table, targets, match, np.arange(N)), candidates_of(list(targets), N, wide=wide)
    ).settings


def test_four_outcomes_win_where_they_alone_tell_the_failures(table: FeatureTable, angle: np.ndarray):
    both_right, both_wrong = np.cos(angle) > 0.5, np.cos(angle) < -0.5  # the strong model alone is right on both sides
    assert chosen(table, np.where(both_right, 0, np.where(both_wrong, 3, 1))).form == "four_outcomes"


def equally_good() -> dict[FitSettings, np.ndarray]:
    """Return losses of every candidate of a small log that differ by chance alone, half of the rows either way."""
    rng = np.random.default_rng(7)
    loss, noise = rng.random(N), 1e-3 * np.where(np.arange(N) % 2, 1.0, -1.0)
    candidates = candidates_of(["binary", "four_outcomes"], N)
    return {one: loss + scale * noise for scale, one in enumerate(candidates)}


def test_of_equals_a_small_log_takes_four_outcomes_the_largest_c_and_the_scale_of_one():
    assert choose(equally_good(), np.arange(N), is_small=True) == FitSettings(c=C_GRID[-1], dense_scale=1.0)


def test_of_equals_a_large_log_takes_the_binary_form_and_the_least_c():
    found = choose(equally_good(), np.arange(N), is_small=False)
    assert (found.form, found.c) == ("binary", C_GRID[0])


def test_what_is_clearly_worse_is_not_taken_whatever_the_order():
    losses = {one: loss + (one.form != "binary") + (one.c > 1.0) for one, loss in equally_good().items()}
    assert choose(losses, np.arange(N), is_small=True) == FitSettings(form="binary", c=1.0, dense_scale=1.0)


def test_where_nothing_can_be_learned_the_fit_is_no_worse_than_the_base_rate_by_much(table: FeatureTable):
    match = np.random.default_rng(7).integers(0, 2, N)
    found = out_of_fold(LessonRows(table, {"binary": match}, match, np.arange(N)), candidates_of(["binary"], N))
    assert row_losses(found.full, match).mean() < np.log(2) + 0.02


def test_log_without_scores_has_one_form_to_choose_from(table: FeatureTable, angle: np.ndarray):
    match = (angle < np.pi).astype(np.int64)
    found = out_of_fold(
        LessonRows(table, {"binary": match}, match, np.arange(N)), candidates_of(["binary"], N)
    ).settings
    assert found.form == "binary"


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_best_comes_first_and_what_is_clearly_worse_never_comes(seed: int, n_candidates: int):
    rng = np.random.default_rng(seed)
    losses = {FitSettings(c=float(one)): rng.random(60) for one in range(n_candidates)}
    clearly_worse = FitSettings(c=99.0)
    best = min(losses, key=lambda one: float(losses[one].mean()))
    losses[clearly_worse] = losses[best] + 0.1
    found = within_one_error(losses, np.arange(60))
    assert found[0] == best
    assert clearly_worse not in found


def test_groups_count_once():
    rng = np.random.default_rng(1)
    better, worse = FitSettings(c=1.0), FitSettings(c=2.0)
    loss = rng.random(40)
    losses = {better: loss, worse: loss + 0.03 + 0.15 * rng.standard_normal(40)}
    repeated = {one: np.repeat(loss, 50) for one, loss in losses.items()}
    assert within_one_error(repeated, np.repeat(np.arange(40), 50)) == within_one_error(losses, np.arange(40))
