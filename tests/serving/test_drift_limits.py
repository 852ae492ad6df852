"""Drift readings: what is beyond its limit, and how often chance is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, norm

from turnout.serving.bundles.baseline import bins_of
from turnout.serving.bundles.limits import CHI_SQUARE, FALSE_ALARMS, NORMAL, PSI_FLOOR, psi, psi_reading, share_reading
from turnout.serving.observe.drift.calibration import calibration_readings, match_from
from turnout.serving.observe.drift.window import outcome_sums

COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=13).filter(any)


def test_quantiles_are_those_of_scipy():
    assert pytest.approx(chi2.isf(FALSE_ALARMS, np.arange(1, len(CHI_SQUARE) + 1)), abs=0.005) == CHI_SQUARE
    assert pytest.approx(norm.isf(FALSE_ALARMS), abs=0.001) == NORMAL


@given(COUNTS, st.integers(1, 50))
def test_psi_is_zero_for_the_same_counts_and_no_direction_matters(counts: list[int], factor: int):
    other = counts[::-1]
    assert psi(counts, counts) == 0.0
    assert psi(counts, other) == pytest.approx(psi(other, counts))
    assert psi([100 * factor * one for one in counts], [100 * one for one in counts]) < 0.02
    assert psi(counts, other) >= 0.0


def test_psi_agrees_with_a_sum_by_hand():
    # (0.6 - 0.4) ln(0.6 / 0.4) twice; half a row more in each bin hardly counts among a million
    assert psi([400_000, 600_000], [600_000, 400_000]) == pytest.approx(0.4 * np.log(1.5), abs=1e-5)


def test_limit_of_small_windows_is_that_of_chance_and_of_large_ones_the_usual_mark():
    few = [30.0] * 10
    assert psi_reading("p_match", few, few).limit == pytest.approx(chi2.isf(FALSE_ALARMS, 9) / 150, abs=1e-3)
    many = [10_000.0] * 10
    assert psi_reading("p_match", many, many).limit == PSI_FLOOR


@pytest.mark.parametrize(("n", "m"), [(500, 300), (1000, 4000)])
def test_scaled_psi_follows_chi_square_without_a_shift(n: int, m: int):
    rng = np.random.default_rng(0)
    shares = np.full(10, 0.1)
    scaled = [psi(rng.multinomial(m, shares), rng.multinomial(n, shares)) / (1 / n + 1 / m) for _ in range(2000)]
    assert np.mean(scaled) == pytest.approx(9, rel=0.06)
    assert np.mean(np.array(scaled) > chi2.isf(0.01, 9)) < 0.02


def test_share_out_of_distribution_may_rise_by_what_chance_explains():
    baseline = (3840.0, 160.0)
    assert not share_reading("out_of_distribution", baseline, [940, 60]).is_beyond
    beyond = share_reading("out_of_distribution", baseline, [880, 120])
    assert (beyond.is_beyond, beyond.value) == (True, 0.12)
    assert not share_reading("out_of_distribution", baseline, [1000, 0]).is_beyond


def test_bins_hold_some_mass_each_and_keep_a_rare_right_tail_apart():
    bins = bins_of("digit_share", np.linspace(0, 1, 25).tolist(), [4000] + [1] * 23)
    assert bins.n == (4000, 23)
    assert bins.codes(np.array([0.0, 0.03, 0.05, 0.9, 7.0])).tolist() == [0, 0, 1, 1, 1]
    assert sum(bins_of("x", np.linspace(0, 1, 25).tolist(), list(range(1, 25))).n) == 300


@given(st.lists(st.integers(0, 300), min_size=24, max_size=24).filter(any))
def test_bins_lose_no_row_and_are_never_too_many(counts: list[int]):
    bins = bins_of("x", np.linspace(0, 1, 25).tolist(), counts)
    assert sum(bins.n) == sum(counts)
    assert len(bins.n) == bins.cuts.size + 1 <= len(CHI_SQUARE) + 1
    middles = np.repeat((np.arange(24) + 0.5) / 24, counts)
    assert tuple(np.bincount(bins.codes(middles), minlength=len(bins.n))) == bins.n


def test_a_measure_that_never_varied_has_bins_for_what_is_new():
    bins = bins_of("log_tools", [0.0, 0.0], [4000])
    assert bins.codes(np.array([-1.0, 0.0, 0.7])).tolist() == [0, 1, 2]
    assert psi_reading("log_tools", bins.n, [0, 900, 100]).is_beyond
    assert not psi_reading("log_tools", bins.n, [0, 1000, 0]).is_beyond


def test_probabilities_that_came_true_are_within_and_those_that_did_not_beyond():
    rng = np.random.default_rng(1)
    p_match = rng.beta(8, 2, 1000)
    kept = (rng.random(1000) < p_match).astype(float)
    assert not any(one.is_beyond for one in calibration_readings(outcome_sums(p_match, kept).tolist()))
    worse = (rng.random(1000) < p_match - 0.15).astype(float)
    readings = calibration_readings(outcome_sums(p_match, worse).tolist())
    assert [(one.measure, one.is_beyond) for one in readings] == [("calibration_error", True), ("brier", True)]
    assert readings[1].value == pytest.approx(np.mean((worse - p_match) ** 2))
    assert readings[0].value == pytest.approx(0.15, abs=0.04)


def test_few_outcomes_say_nothing():
    assert calibration_readings(outcome_sums(np.full(100, 0.9), np.zeros(100)).tolist()) == []


@pytest.mark.parametrize(
    ("preference", "scores", "margin", "match"),
    [
        ("weak", {}, 0.0, 1),
        ("tie", {}, 0.0, 1),
        ("strong", {"weak": 1.0}, 0.0, 0),
        ("", {"weak": 0.5, "strong": 0.5}, 0.0, 1),
        ("", {"weak": 0.5, "strong": 0.6}, 0.0, 0),
        ("", {"weak": 0.5, "strong": 0.6}, 0.2, 1),
        ("", {"weak": 1.0}, 0.0, None),
        ("", {}, 0.0, None),
    ],
)
def test_match_is_known_from_a_preference_or_both_scores(preference, scores, margin, match):
    assert match_from(preference, scores, margin) == match
