"""Calibration: against independent computations, and on labels drawn from a known probability."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit
from sklearn.isotonic import IsotonicRegression

from turnout.serving.router.exit_band import ExitBand
from turnout.training.bundle.export import IR_VERSION, OPSET, PARITY
from turnout.training.fit.calibrate import (
    BAND_DISAGREEMENT,
    ISOTONIC_MIN_ROWS,
    PREFERRED_FIRST,
    exit_band,
    fit_calibrator,
)
from turnout.training.fit.calibrators import (
    KNOT_GAP,
    P_MIN,
    Beta,
    Calibrator,
    Isotonic,
    LogitLine,
    fit_beta,
    fit_isotonic,
    fit_none,
    fit_platt,
    fit_temperature,
)

FITS = (fit_platt, fit_beta, fit_isotonic)
"""The kinds that can move the mean."""

LIMIT = float(logit(1 - P_MIN))
GRID = np.linspace(-20, 20, 2001)


def draw(n: int, *, slope: float = 1.0, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from expit(true), and log-odds from which true = slope * z + shift."""
    rng = np.random.default_rng(seed)
    true = rng.normal(1.5, 1.2, n)
    return (true - shift) / slope, (rng.random(n) < expit(true)).astype(np.int64)


def platt_by_scipy(z: np.ndarray, match: np.ndarray) -> tuple[float, float]:
    """Slope and intercept that minimise the cross-entropy against Platt's targets."""
    target = np.where(match == 1, (match.sum() + 1) / (match.sum() + 2), 1 / ((match == 0).sum() + 2))

    def loss(line: np.ndarray) -> float:
        odds = line[0] * z + line[1]
        return -float((target * log_expit(odds) + (1 - target) * log_expit(-odds)).sum())

    found = minimize(loss, np.array([1.0, 0.0]), method="BFGS", options={"gtol": 1e-6})
    return tuple(found.x)


@pytest.mark.parametrize(("n", "slope", "shift"), [(60, 1.0, 0.0), (400, 0.4, 1.0), (3000, 2.5, -0.7)])
def test_platt_is_the_minimum_that_scipy_finds(n: int, slope: float, shift: float):
    z, match = draw(n, slope=slope, shift=shift, seed=n)
    expected_slope, expected_intercept = platt_by_scipy(z, match)
    calibrator = fit_platt(z, match)
    assert calibrator.kind == "platt"
    assert calibrator.slope == pytest.approx(expected_slope, rel=5e-3)
    assert calibrator(z) == pytest.approx(expected_slope * z + expected_intercept, abs=0.02)


def test_isotonic_is_that_of_scikit_learn_where_no_knot_is_thinned():
    n = 400
    z = np.arange(n) * 2 * KNOT_GAP - 6
    match = (np.random.default_rng(3).random(n) < expit(z)).astype(np.int64)
    margin = 1 / (n + 2)
    expected = IsotonicRegression(y_min=margin, y_max=1 - margin).fit_transform(z, match)
    assert expit(fit_isotonic(z, match)(z)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("seed", range(3))
def test_mean_of_the_calibrated_rows_is_the_match_rate(fit, seed: int):
    z, match = draw(2000, seed=seed)
    assert expit(fit(z, match)(z)).mean() == pytest.approx(match.mean(), abs=0.004)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(("slope", "shift"), [(0.3, 1.5), (1.0, -2.0), (3.0, 0.5)])
def test_affine_distortion_is_undone(fit, slope: float, shift: float):
    z, match = draw(20_000, slope=slope, shift=shift, seed=1)
    true = expit(slope * z + shift)
    error = np.abs(expit(fit(z, match)(z)) - true)
    assert error.mean() < 0.015
    assert abs((expit(fit(z, match)(z)) - true).mean()) < 0.008


def test_isotonic_follows_a_bend_that_no_line_can():
    rng = np.random.default_rng(2)
    z = rng.uniform(-3, 3, 20_000)
    true = np.where(z < 0, 0.2, 0.9)
    match = (rng.random(z.size) < true).astype(np.int64)
    platt, isotonic = (np.abs(expit(fit(z, match)(z)) - true).mean() for fit in (fit_platt, fit_isotonic))
    assert isotonic < 0.02 < platt


@given(
    z=arrays(np.float64, st.integers(30, 120), elements=st.floats(-30, 30)),
    seed=st.integers(0, 2**32 - 1),
    fit=st.sampled_from(PREFERRED_FIRST),
)
@settings(max_examples=100)
def test_calibrators_never_fall_and_stay_within_bounds(z: np.ndarray, seed: int, fit):
    match = (np.random.default_rng(seed).random(z.size) < 0.6).astype(np.int64)
    calibrated = fit(z, match)(GRID)
    assert np.isfinite(calibrated).all()
    assert (np.diff(calibrated) >= 0).all()
    assert np.abs(calibrated).max() <= LIMIT


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("label", [0, 1])
def test_one_outcome_only_is_no_certainty(fit, label: int):
    n = 50
    z = np.linspace(-2, 4, n)
    p_match = expit(fit(z, np.full(n, label))(z))
    expected = (n + 1) / (n + 2)
    assert p_match == pytest.approx(np.full(n, expected if label else 1 - expected), abs=2e-3)


def test_reversed_ranking_becomes_the_match_rate_and_not_a_falling_map():
    z, match = draw(2000, seed=4)
    calibrator = fit_platt(-z, match)
    assert calibrator.slope == 0
    assert expit(calibrator(-z)) == pytest.approx(np.full(z.size, match.mean()), abs=1e-3)


def test_all_rows_with_the_same_log_odds_get_the_match_rate():
    match = np.array([1] * 30 + [0] * 10)
    for fit in FITS:
        assert expit(fit(np.full(40, 1.3), match)(np.full(40, 1.3))) == pytest.approx(np.full(40, 0.75), abs=0.02)


def test_p_match_never_leaves_its_bounds():
    steep = LogitLine("platt", 1e6, 0.0)
    p_match = expit(steep(np.array([-1e9, 1e9])))
    assert p_match == pytest.approx([P_MIN, 1 - P_MIN], rel=1e-9)


def test_knots_keep_their_distance_so_that_float32_can_follow():
    z, match = draw(5000, seed=5)
    knots = fit_isotonic(z, match).x
    assert knots.dtype == np.float32
    assert (np.diff(knots.astype(np.float64)) >= KNOT_GAP * 0.999).all()


def test_few_rows_are_calibrated_by_platt_even_where_a_bend_would_fit():
    n = ISOTONIC_MIN_ROWS
    rng = np.random.default_rng(6)
    z = rng.uniform(-3, 3, n)
    match = (rng.random(n) < np.where(z < 0, 0.1, 0.95)).astype(np.int64)
    assert fit_calibrator(z, match, np.arange(n)).kind == "isotonic"
    assert fit_calibrator(z[1:], match[1:], np.arange(n - 1)).kind != "isotonic"


def bend(z: np.ndarray) -> np.ndarray:
    """Flat below 0, steep above: a beta map, and no line."""
    return 0.2 * log_expit(z) - 2.0 * log_expit(-z) - 1.5


def staircase(z: np.ndarray) -> np.ndarray:
    return np.where(z < -1, -2.0, np.where(z < 1, 0.5, 3.0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "truth"),
    [
        ({"platt", "temperature", "none"}, lambda z: z),
        ({"platt", "temperature"}, lambda z: 0.4 * z),
        ({"platt"}, lambda z: 0.6 * z + 0.9),
        ({"beta"}, bend),
        ({"isotonic"}, staircase),
    ],
)
def test_a_kind_that_fits_the_truth_is_chosen(kinds: set[str], truth):
    rng = np.random.default_rng(11)
    z = rng.uniform(-3, 3, 30_000)
    match = (rng.random(z.size) < expit(truth(z))).astype(np.int64)
    group = rng.integers(0, 10_000, z.size)
    assert fit_calibrator(z, match, group).kind in kinds


@pytest.mark.slow
def test_a_bend_within_the_noise_gives_way_to_a_line():
    drawn = [draw(4000, seed=seed) for seed in range(20)]
    kinds = [fit_calibrator(z, match, np.arange(z.size)).kind for z, match in drawn]
    assert sum(kind in {"platt", "temperature", "none"} for kind in kinds) >= 14
    assert "platt" in kinds
    z, match = drawn[kinds.index("platt")]
    loss = {fit: -log_expit(np.where(match == 1, 1, -1) * fit(z, match)(z)).mean() for fit in (fit_platt, fit_beta)}
    assert loss[fit_beta] < loss[fit_platt]


def test_rows_of_a_group_do_not_vouch_for_each_other():
    rng = np.random.default_rng(9)
    z, match = np.repeat(rng.normal(1, 1, 60), 30), np.repeat((rng.random(60) < 0.7).astype(np.int64), 30)
    alone = fit_calibrator(z, match, np.arange(z.size)).kind
    together = fit_calibrator(z, match, np.repeat(np.arange(60), 30)).kind
    assert (alone, together) == ("isotonic", "platt")


def beta_by_scipy(z: np.ndarray, match: np.ndarray) -> np.ndarray:
    """Odds that minimise the cross-entropy against Platt's targets, by another method and from p itself."""
    p = expit(z)
    target = np.where(match == 1, (match.sum() + 1) / (match.sum() + 2), 1 / ((match == 0).sum() + 2))

    def odds(w: np.ndarray) -> np.ndarray:
        return w[0] ** 2 * np.log(p) - w[1] ** 2 * np.log1p(-p) + w[2]

    def loss(w: np.ndarray) -> float:
        q = expit(odds(w))
        return -float((target * np.log(q) + (1 - target) * np.log1p(-q)).mean())

    options = {"maxiter": 5000, "maxfev": 5000, "xatol": 1e-8, "fatol": 1e-13}
    return odds(minimize(loss, np.array([1.0, 1.0, 0.0]), method="Nelder-Mead", options=options).x)


@pytest.mark.parametrize(("n", "slope", "shift"), [(80, 1.0, 0.0), (400, 0.4, 1.0), (3000, 2.5, -0.7)])
def test_beta_is_the_minimum_that_another_method_finds(n: int, slope: float, shift: float):
    z, match = draw(n, slope=slope, shift=shift, seed=n)
    assert expit(fit_beta(z, match)(z)) == pytest.approx(expit(beta_by_scipy(z, match)), abs=2e-3)


def test_beta_recovers_a_bend():
    rng = np.random.default_rng(12)
    z = rng.uniform(-4, 4, 40_000)
    match = (rng.random(z.size) < expit(bend(z))).astype(np.int64)
    found = fit_beta(z, match)
    assert (found.match_slope, found.miss_slope, found.intercept) == pytest.approx((0.2, 2.0, -1.5), abs=0.12)


def test_beta_with_equal_slopes_is_a_line():
    assert Beta(0.7, 0.7, 0.2)(GRID) == pytest.approx(LogitLine("platt", 0.7, 0.2)(GRID), abs=1e-12)


def test_temperature_is_the_scale_that_scipy_finds():
    z, match = draw(2000, slope=2.5, seed=13)
    target = np.where(match == 1, (match.sum() + 1) / (match.sum() + 2), 1 / ((match == 0).sum() + 2))
    odds = np.where(target > 0.5, 1, -1) * z
    best = minimize(
        lambda scale: (
            -float((np.maximum(target, 1 - target) * log_expit(scale * odds)).sum())
            - float((np.minimum(target, 1 - target) * log_expit(-scale * odds)).sum())
        ),
        np.array([1.0]),
    )
    found = fit_temperature(z, match)
    assert found.slope == pytest.approx(best.x[0], rel=1e-3)
    assert (found.kind, found.intercept) == ("temperature", 0)


def test_none_changes_nothing_within_the_bounds():
    inside = GRID[np.abs(GRID) < LIMIT]
    assert np.array_equal(fit_none(GRID, np.zeros(GRID.size, np.int64))(inside), inside)


def as_session(calibrator: Calibrator) -> ort.InferenceSession:
    """Return the calibrator's part of the graph alone."""
    text = f"calibrator (float h_raw) => (float h_calibrated) {{ {calibrator.graph_text('h')} }}"
    graph = onnx.parser.parse_graph(text)
    shared = {"zero": np.array(0.0, np.float32), "first_axis": np.array([0], np.int64)}
    constants = shared | calibrator.constants("h")
    graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    "calibrator",
    [
        LogitLine("none", 1.0, 0.0),
        LogitLine("temperature", float(np.float32(2.7)), 0.0),
        LogitLine("platt", float(np.float32(0.4)), float(np.float32(-1.3))),
        Beta(float(np.float32(0.3)), float(np.float32(2.2)), float(np.float32(-0.9))),
        Beta(0.0, 1.5, 0.5),
        Beta(1.5, 0.0, 0.5),
        Isotonic(np.array([-3, 0, 0.02, 4], np.float32), np.array([-2, -1, 1, 5], np.float32)),
        Isotonic(np.array([0.5], np.float32), np.array([1.25], np.float32)),
    ],
    ids=lambda calibrator: calibrator.kind,
)
def test_graph_follows_the_formula_at_ordinary_and_extreme_log_odds(calibrator: Calibrator):
    session = as_session(calibrator)
    odds = np.concatenate((np.linspace(-40, 40, 801), [-1e30, -1e4, -200.0, -0.0, 1e-30, 89.0, 200.0, 1e4, 1e30]))
    odds = odds.astype(np.float32)
    got = [float(session.run(None, {"h_raw": np.array(value)})[0]) for value in odds]
    assert np.isfinite(got).all()
    expected = expit(calibrator(odds.astype(np.float64)))
    assert np.abs(expit(np.clip(got, -LIMIT, LIMIT)) - expected).max() <= PARITY


def heads(n: int, *, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    full = rng.normal(1.8, 1.0, n)
    return full + rng.normal(0, noise, n), full


def worst_disagreement(
    fast: np.ndarray, full: np.ndarray, band: ExitBand, *, factor: float = 1.0, n_thresholds: int = 99
) -> float:
    """Largest share over the thresholds of rows that leave early with another route."""
    shares = []
    for threshold in np.quantile(full, np.linspace(0.01, 0.99, n_thresholds)):
        leaves = np.abs(fast - threshold) > factor * band.at(threshold)
        shares.append(np.mean(leaves & ((fast >= threshold) != (full >= threshold))))
    return max(shares)


@pytest.mark.parametrize("n", [146, 999, 2500])
@pytest.mark.parametrize("noise", [0.05, 0.5, 3.0])
def test_outside_the_band_the_heads_disagree_on_few_rows_at_every_threshold(n: int, noise: float):
    fast, full = heads(n, noise=noise, seed=n)
    band = exit_band(fast, full)
    assert worst_disagreement(fast, full, band) <= BAND_DISAGREEMENT
    assert worst_disagreement(fast, full, band, factor=0.999) > BAND_DISAGREEMENT  # and no narrower one would do


@pytest.mark.parametrize("noise", [0.05, 0.5, 3.0])
def test_between_the_percentiles_the_heads_disagree_on_little_more(noise: float):
    fast, full = heads(2500, noise=noise)
    assert worst_disagreement(fast, full, exit_band(fast, full), n_thresholds=981) <= 1.5 * BAND_DISAGREEMENT


def test_band_is_narrow_where_the_heads_agree():
    full = heads(4000, noise=0)[1]
    fast = np.where(full > 1.8, full, full + np.random.default_rng(0).normal(0, 0.5, full.size))
    band = exit_band(fast, full)
    assert band.at(3.0) < 0.1 < band.at(0.5) <= band.widest
    assert band.at(-9.0) == band.at(9.0) == band.widest  # where no row tells, caution


def test_equal_heads_need_no_band():
    full = heads(500, noise=0)[1]
    assert exit_band(full, full).widest == pytest.approx(0, abs=1e-30)


@pytest.mark.parametrize("fast_answer", [-LIMIT, LIMIT])
def test_fast_head_that_is_always_wrong_never_answers(fast_answer: float):
    full = heads(500, noise=0)[1]
    fast = np.full(500, fast_answer)
    band = exit_band(fast, full)
    for threshold in np.quantile(full, np.linspace(0.01, 0.99, 99)):
        leaves = np.abs(fast - threshold) > band.at(threshold)
        assert (leaves & ((fast >= threshold) != (full >= threshold))).mean() <= BAND_DISAGREEMENT
