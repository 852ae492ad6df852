"""Calibrators: monotone maps of raw log-odds to calibrated ones, each with its fit, its formula and its graph.

Comes in: out-of-fold log-odds and their labels. Goes out: a `Calibrator`; `turnout.training.fit.calibrate`
chooses among them, `training.fit.router` calls them, `training.bundle.export` writes them into the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from turnout.training.arrays import Floats, Ints

P_MIN = 1e-6
"""p_match stays in [1e-6, 1 - 1e-6]: nothing learned from thousands of rows justifies more."""

KNOT_GAP = 2e-2
"""Least distance in log-odds between two knots: closer ones have slopes of hundreds, and float32 then misses
the Python path by more than 1e-5."""


class Calibrator(Protocol):
    """A map of log-odds that never falls, so that it keeps the ranking (isotonic regression makes ties)."""

    @property
    def kind(self) -> str:
        """Name of the kind, as the manifest has it."""

    def __call__(self, z: Floats) -> Floats:
        """Return calibrated log-odds (n,) of raw ones (n,), clipped to `P_MIN`."""

    def graph_text(self, head: str) -> str:
        """Return ONNX text that makes `<head>_calibrated` of `<head>_raw`, both float32 scalars, without the clip."""

    def constants(self, head: str) -> dict[str, NDArray[Any]]:
        """Return the initializers that the text names, beside the graph's own `zero` and `first_axis`."""


@dataclass(frozen=True)
class LogitLine:
    """slope * z + intercept: Platt's sigmoid, temperature (intercept 0), or none (slope 1, intercept 0)."""

    kind: str
    slope: float
    intercept: float

    def __call__(self, z: Floats) -> Floats:
        """Return calibrated log-odds."""
        return _clipped(self.slope * z + self.intercept)

    def graph_text(self, head: str) -> str:
        """Return the line as ONNX text."""
        return f"""
        {head}_sloped = Mul ({head}_raw, {head}_slope)
        {head}_calibrated = Add ({head}_sloped, {head}_start)"""

    def constants(self, head: str) -> dict[str, NDArray[Any]]:
        """Return slope and intercept."""
        return {
            f"{head}_slope": np.array(self.slope, np.float32),
            f"{head}_start": np.array(self.intercept, np.float32),
        }


@dataclass(frozen=True)
class Beta:
    """intercept + match_slope * ln p - miss_slope * ln(1 - p) (Kull et al. 2017), both slopes >= 0.

    With ln p = -softplus(-z) and ln(1 - p) = -softplus(z) no p is ever formed that float32 would round to 0 or 1.
    Equal slopes give Platt's line; unequal ones bend it at z = 0.
    """

    match_slope: float
    miss_slope: float
    intercept: float
    kind: str = "beta"

    def __call__(self, z: Floats) -> Floats:
        """Return calibrated log-odds."""
        return _clipped(self.match_slope * log_expit(z) - self.miss_slope * log_expit(-z) + self.intercept)

    def graph_text(self, head: str) -> str:
        """Return the formula as ONNX text."""
        return f"""
        {head}_negated = Neg ({head}_raw)
        {head}_minus_log_p = Softplus ({head}_negated)
        {head}_minus_log_q = Softplus ({head}_raw)
        {head}_match_term = Mul ({head}_minus_log_p, {head}_match_slope)
        {head}_miss_term = Mul ({head}_minus_log_q, {head}_miss_slope)
        {head}_bent = Sub ({head}_miss_term, {head}_match_term)
        {head}_calibrated = Add ({head}_bent, {head}_start)"""

    def constants(self, head: str) -> dict[str, NDArray[Any]]:
        """Return both slopes and the intercept."""
        return {
            f"{head}_match_slope": np.array(self.match_slope, np.float32),
            f"{head}_miss_slope": np.array(self.miss_slope, np.float32),
            f"{head}_start": np.array(self.intercept, np.float32),
        }


@dataclass(frozen=True)
class Isotonic:
    """Straight lines between knots, level beyond them.

    Attributes:
        x: (m,) float32 ascending knots of raw log-odds, m >= 1.
        y: (m,) float32 calibrated log-odds at the knots.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    kind: str = "isotonic"

    def __call__(self, z: Floats) -> Floats:
        """Return calibrated log-odds."""
        return _clipped(np.interp(z, self.x, self.y))

    def graph_text(self, head: str) -> str:
        """Return the start plus what each interval adds, as ONNX text."""
        return f"""
        {head}_beyond_knots = Sub ({head}_raw, {head}_knots)
        {head}_not_before = Max ({head}_beyond_knots, zero)
        {head}_in_interval = Min ({head}_not_before, {head}_gaps)
        {head}_rises = Mul ({head}_in_interval, {head}_slopes)
        {head}_rise = ReduceSum <keepdims = 0> ({head}_rises, first_axis)
        {head}_calibrated = Add ({head}_rise, {head}_start)"""

    def constants(self, head: str) -> dict[str, NDArray[Any]]:
        """Return the knots but the last, and length and slope of the interval after each."""
        gaps = np.diff(self.x.astype(np.float64))
        return {
            f"{head}_start": np.array(self.y[0], np.float32),
            f"{head}_knots": self.x[:-1],
            f"{head}_gaps": gaps.astype(np.float32),
            f"{head}_slopes": (np.diff(self.y.astype(np.float64)) / gaps).astype(np.float32),
        }


def fit_none(_z: Floats, _match: Ints) -> LogitLine:
    """Leave the log-odds as they are."""
    return LogitLine("none", 1.0, 0.0)


def fit_temperature(z: Floats, match: Ints) -> LogitLine:
    """Fit one scale and no intercept (Guo et al. 2017), 0 where the ranking is reversed."""
    slope, _ = _fit_line(z, match, with_intercept=False)
    return LogitLine("temperature", slope, 0.0)


def fit_platt(z: Floats, match: Ints) -> LogitLine:
    """Fit Platt's sigmoid with his smoothed targets (Platt 1999)."""
    slope, intercept = _fit_line(z, match, with_intercept=True)
    return LogitLine("platt", slope, intercept)


def fit_beta(z: Floats, match: Ints) -> Beta:
    """Fit beta calibration with Platt's targets, slopes held at 0 or above (the loss is convex: one minimum).

    It starts at Platt's line, which is the beta map with both slopes equal, and so never ends above its loss.
    """
    target = _smoothed(match)
    features = np.column_stack((log_expit(z), -log_expit(-z), np.ones(z.size)))

    def loss(weights: Floats) -> tuple[float, Floats]:
        odds = features @ weights
        entropy = -(target * log_expit(odds) + (1.0 - target) * log_expit(-odds)).mean()
        return float(entropy), np.asarray(features.T @ (expit(odds) - target) / z.size, dtype=np.float64)

    slope, intercept = _fit_line(z, match, with_intercept=True)
    found = minimize(
        loss,
        np.array([slope, slope, intercept]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None), (0.0, None), (None, None)],
        options={"maxiter": 2000, "maxfun": 4000, "gtol": 1e-8, "ftol": 1e-14},
    )
    match_slope, miss_slope, constant = (_single(weight) for weight in found.x)
    return Beta(match_slope, miss_slope, constant)


def fit_isotonic(z: Floats, match: Ints) -> Isotonic:
    """Fit isotonic regression (Zadrozny and Elkan 2002) on log-odds rounded to `KNOT_GAP`.

    The rounding keeps the knots apart; leaving knots out afterwards would turn steps into ramps below the
    data. It interpolates between knots in log-odds, so that the graph and this function share one formula.
    """
    margin = 1.0 / (match.size + 2.0)  # a block of matches only does not prove certainty
    rounded = np.round(z / KNOT_GAP) * KNOT_GAP
    isotonic = IsotonicRegression(y_min=margin, y_max=1.0 - margin, out_of_bounds="clip").fit(rounded, match)
    knots, values = isotonic.X_thresholds_, logit(isotonic.y_thresholds_)
    return Isotonic(knots.astype(np.float32), values.astype(np.float32))


def _fit_line(z: Floats, match: Ints, *, with_intercept: bool) -> tuple[float, float]:
    target = _smoothed(match)
    regression = LogisticRegression(C=1e6, fit_intercept=with_intercept)
    regression.fit(
        np.concatenate((z, z))[:, None],
        np.repeat([1, 0], z.size),
        sample_weight=np.concatenate((target, 1.0 - target)),
    )
    slope = max(0.0, _single(regression.coef_[0, 0]))  # a falling map would turn the ranking round
    if not with_intercept:
        return slope, 0.0
    return slope, _single(regression.intercept_[0] if slope else logit(target.mean()))


def _smoothed(match: Ints) -> Floats:
    """Platt's targets: a little less than certain, so that one outcome only proves no certainty."""
    n_match = int(match.sum())
    high, low = (n_match + 1.0) / (n_match + 2.0), 1.0 / (match.size - n_match + 2.0)
    return np.where(match == 1, high, low)


def _single(value: float) -> float:
    """Round to float32: what the graph holds."""
    return float(np.float32(value))


def _clipped(log_odds: Floats) -> Floats:
    limit = float(logit(1.0 - P_MIN))
    return np.asarray(np.clip(log_odds, -limit, limit), dtype=np.float64)
