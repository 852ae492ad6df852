"""The cascade: one ranking says every route that it serves, at every threshold."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.training.routers import plain_router
from training.router import HeadLogOdds, threshold_log_odds, turning_log_odds

log_odds = st.floats(-8, 8)


@given(fast=log_odds, full=log_odds, band=st.floats(0, 4), threshold=st.floats(0.001, 0.999))
def test_route_is_weak_exactly_up_to_where_it_turns(fast: float, full: float, band: float, threshold: float):
    heads = HeadLogOdds(np.array([fast]), np.array([full]))
    turning = turning_log_odds(heads, band)[0]
    at = threshold_log_odds(threshold)
    assume(min(abs(turning - at), abs(abs(fast - at) - band)) > 1e-9)
    p_match = plain_router(band).cascade(heads, threshold).p_match[0]
    assert (p_match >= threshold) == (turning >= at)


def test_band_without_end_ranks_as_the_full_head_and_none_as_the_fast_one():
    rng = np.random.default_rng(1)
    heads = HeadLogOdds(rng.normal(size=50), rng.normal(size=50))
    assert np.array_equal(turning_log_odds(heads, np.inf), heads.full)
    assert np.array_equal(turning_log_odds(heads, 0.0), heads.fast)
