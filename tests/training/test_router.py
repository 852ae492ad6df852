"""What the cascade routes over all thresholds, as one ranking."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from turnout.serving.router.exit_band import ExitBand
from turnout.training.fit.router import HeadLogOdds, cascade, largest_weak_threshold

N = 50


def heads_of(seed: int) -> HeadLogOdds:
    fast = np.random.default_rng(seed).normal(1, 1, N)
    return HeadLogOdds(fast, fast + np.random.default_rng(seed + 1).normal(0, 1, N))


@given(st.integers(0, 2**32 - 2), st.floats(0, 3), st.floats(-4, 4))
def test_with_one_width_it_says_every_route_at_every_threshold(seed: int, half_width: float, threshold_odds: float):
    heads, band = heads_of(seed), ExitBand.constant(half_width)
    threshold = expit(threshold_odds)
    cut = largest_weak_threshold(heads, band)
    is_plain = np.abs(cut - threshold_odds) > 1e-9
    weak = cascade(heads, threshold, band).p_match >= threshold
    assert weak[is_plain].tolist() == (cut >= threshold_odds)[is_plain].tolist()


@given(st.integers(0, 2**32 - 2), st.floats(-4, 4))
def test_with_widths_by_threshold_no_row_goes_weak_beyond_it(seed: int, threshold_odds: float):
    heads, band = heads_of(seed), ExitBand((-1.0, 0.5, 2.0), (0.2, 1.5, 0.0, 0.7))
    threshold = expit(threshold_odds)
    weak = cascade(heads, threshold, band).p_match >= threshold
    assert (largest_weak_threshold(heads, band)[weak] >= threshold_odds - 1e-9).all()


def test_band_that_holds_everything_ranks_as_the_full_head_and_none_as_the_fast():
    heads = heads_of(3)
    assert largest_weak_threshold(heads, ExitBand.constant(99.0)) == pytest.approx(heads.full)
    assert largest_weak_threshold(heads, ExitBand.constant(0.0)) == pytest.approx(heads.fast)
