"""Fit the second look: one logistic regression over prompt, answer and signals, and a head of the signals alone.

Comes in: `CheckRows`, whose first look never saw the row's group. Goes out: `Checker` and `SignalHead`, each linear in
features that cost microseconds, with the lines that calibrate them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags, hstack
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from turnout.serving.router.answer_features import SIGNALS, Shape
from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.check.rows import CheckRows
from turnout.training.fit.calibrators import Beta, fit_beta
from turnout.training.fit.fit import idf_of
from turnout.training.fit.solver import Design, SparseBlock, fit_logistic

MIN_CELL_ROWS = 50
"""A kind of signal counts in a shape of answer where so many rows taught it; a self-check in all shapes or in none."""

MIN_CALIBRATION_ROWS = 300
STRUCTURE_CLIP, FIRST_CLIP = 5.0, 8.0
MIN_DOCUMENTS = 2
LEAST_SURPRISE, MOST_SURPRISE = 1e-7, 20.0
N_FOLDS = 5


@dataclass(frozen=True)
class CheckerSettings:
    """Scales of the parts, which are their regularisation (docs/decisions/training/0013)."""

    c: float = 2.0
    first_scale: float = 0.5
    lexical_scale: float = 1.0
    structure_scale: float = 0.1
    shape_structure_scale: float = 0.3
    shape_scale: float = 0.3
    signal_scale: float = 1.0


DEFAULTS = CheckerSettings()


def curve(logprob: Floats) -> Floats:
    """Return (log(max(-logprob, 1e-7)) + 7) / 6: the one function of a log-probability that the fits are linear in.

    A square root or a square beside it can bend the curve the wrong way where a source never seen has other extremes:
    0.843 instead of 0.907 AUROC with TriviaQA held out.
    """
    return np.asarray((np.log(np.clip(-logprob, LEAST_SURPRISE, MOST_SURPRISE)) + 7.0) / 6.0)


@dataclass(frozen=True)
class SignalGate:
    """Which kinds of signal count in which shapes of answer: `usable` is (8, 2) bool."""

    usable: Bools

    @classmethod
    def fitted(cls, rows: CheckRows) -> SignalGate:
        """Count rows by kind and shape; a self-check means the same in all shapes and is counted over them together."""
        present = ~np.isnan(rows.signals)
        usable = np.zeros((len(Shape), len(SIGNALS)), dtype=bool)
        usable[:, 0] = present[:, 0].sum() >= MIN_CELL_ROWS
        usable[:, 1] = np.bincount(rows.shape[present[:, 1]], minlength=len(Shape)) >= MIN_CELL_ROWS
        return cls(usable)

    def used(self, rows: CheckRows) -> Bools:
        """Return (n, 2) which kinds count."""
        return ~np.isnan(rows.signals) & self.usable[rows.shape]

    def features(self, rows: CheckRows) -> Floats:
        """Return (n, 3): mean curve over the usable kinds, then the share of each kind in it; all 0 without any."""
        present = self.used(rows).astype(np.float64)
        curves = curve(np.where(np.isnan(rows.signals), -1.0, rows.signals))
        share = present / np.maximum(1.0, present.sum(axis=1, keepdims=True))
        return np.column_stack(((curves * share).sum(axis=1), share))

    def cell(self, rows: CheckRows) -> Ints:
        """Return (n,) which signals counted, as one number in 0 to 3: by it the checker is calibrated."""
        return np.asarray(self.used(rows) @ np.array([1, 2]), dtype=np.int64)


@dataclass(frozen=True)
class ShapeScaler:
    """Standardises the structure, over all rows and again inside each shape: `mean` and `factor` are (9, s).

    Row 8 is that of all shapes together. A factor is 0 where training had no variance or fewer than 50 rows.
    """

    mean: Floats
    factor: Floats

    @classmethod
    def fitted(cls, rows: CheckRows) -> ShapeScaler:
        """Return mean and 1 / standard deviation of the rows of each shape, and of all."""
        width = rows.structure.shape[1]
        mean, factor = np.zeros((len(Shape) + 1, width)), np.zeros((len(Shape) + 1, width))
        for number in range(len(Shape) + 1):
            chosen = rows.structure if number == len(Shape) else rows.structure[rows.shape == number]
            if len(chosen) < MIN_CELL_ROWS:
                continue
            deviation = chosen.std(axis=0)
            mean[number] = chosen.mean(axis=0)
            factor[number] = np.where(deviation > 1e-6, 1.0 / np.maximum(deviation, 1e-6), 0.0)
        return cls(mean, factor)

    def blocks(self, rows: CheckRows) -> tuple[Floats, csr_matrix]:
        """Return (n, s) over all shapes, and (n, 8 s) with the block of the row's own shape filled."""
        whole = self._scaled(rows.structure, np.full(rows.shape.size, len(Shape)))
        own = self._scaled(rows.structure, rows.shape)
        n, width = own.shape
        columns = rows.shape[:, None] * width + np.arange(width)
        ends = np.arange(n + 1) * width
        return whole, csr_matrix((own.ravel(), columns.ravel(), ends), shape=(n, len(Shape) * width))

    def _scaled(self, raw: Floats, row: Ints) -> Floats:
        return np.clip((raw - self.mean[row]) * self.factor[row], -STRUCTURE_CLIP, STRUCTURE_CLIP)


@dataclass(frozen=True)
class Checker:
    """The fitted regression over all parts.

    Attributes:
        settings: scales of the parts.
        idf: (2**18,) weight of each bucket; 0 for those left out.
        scaler, gate: as fitted.
        lexical: (2**18,) coefficients.
        own: (8, s) coefficients of the structure in the row's own shape.
        small: coefficients of the first look, the structure over all shapes, the shapes, and the signals.
        intercept: of the regression.
        calibrators: one map for each `SignalGate.cell`.
    """

    settings: CheckerSettings
    idf: Floats
    scaler: ShapeScaler
    gate: SignalGate
    lexical: Floats
    own: Floats
    small: Floats
    intercept: float
    calibrators: tuple[Beta, ...] = (Beta(1.0, 1.0, 0.0),) * 4

    def raw(self, rows: CheckRows) -> Floats:
        """Return (n,) uncalibrated log-odds of a match."""
        sparse, small = _design(rows, self.settings, self.idf, self.scaler, self.gate)
        coefficients = np.concatenate((self.lexical, self.own.ravel()))
        return np.asarray(sparse @ coefficients + small @ self.small + self.intercept)

    def log_odds(self, rows: CheckRows) -> Floats:
        """Return (n,) calibrated log-odds of a match."""
        return calibrated(self.raw(rows), self.gate.cell(rows), self.calibrators)


def fit_checker(
    rows: CheckRows, match: Ints, weight: Floats | None = None, settings: CheckerSettings = DEFAULTS
) -> Checker:
    """Fit on all rows, those without signals too: they teach the answer's part. Left uncalibrated."""
    frequency = np.bincount(rows.counts.indices, minlength=rows.counts.shape[1])
    idf = np.where(frequency >= MIN_DOCUMENTS, idf_of(frequency, rows.counts.shape[0]), 0.0)
    scaler, gate = ShapeScaler.fitted(rows), SignalGate.fitted(rows)
    sparse, small = _design(rows, settings, idf, scaler, gate)
    kept = np.flatnonzero(np.bincount(sparse.indices, minlength=sparse.shape[1]))
    design = Design.of(SparseBlock.of(csr_matrix(sparse[:, kept])), small)
    found = fit_logistic(design, match[:, None].astype(np.float64), settings.c, weight=weight)
    coefficients = np.zeros(sparse.shape[1])
    coefficients[kept] = found.sparse[:, 0]
    lexical, own = np.split(coefficients, [idf.size])
    return Checker(
        settings,
        idf,
        scaler,
        gate,
        lexical,
        own.reshape(len(Shape), -1),
        found.dense[:-1, 0].astype(np.float64),
        float(found.dense[-1, 0]),
    )


def out_of_fold(rows: CheckRows, match: Ints, group: Ints, weight: Floats | None = None) -> Floats:
    """Return (n,) raw log-odds that each row gets from a fit without its group."""
    raw = np.empty(match.size)
    for train, held_out in GroupKFold(N_FOLDS).split(match, groups=group):
        fitted = fit_checker(rows.take(train), match[train], None if weight is None else weight[train])
        raw[held_out] = fitted.raw(rows.take(held_out))
    return raw


def fit_maps(raw: Floats, match: Ints, cell: Ints) -> tuple[Beta, ...]:
    """Return the beta calibration of each cell of signals; that of all rows where a cell has too few.

    By kind of signal: ECE 0.017 on the rows with one, 0.022 with Platt's lines (docs/decisions/training/0013).
    """
    whole = fit_beta(raw, match)
    maps = []
    for number in range(4):
        chosen = cell == number
        is_enough = chosen.sum() >= MIN_CALIBRATION_ROWS and np.unique(match[chosen]).size == 2
        maps.append(fit_beta(raw[chosen], match[chosen]) if is_enough else whole)
    return tuple(maps)


def calibrated(raw: Floats, cell: Ints, maps: tuple[Beta, ...]) -> Floats:
    """Return (n,) calibrated log-odds."""
    odds = np.empty(raw.size)
    for number, beta in enumerate(maps):
        odds[cell == number] = beta(raw[cell == number])
    return odds


def _design(
    rows: CheckRows, settings: CheckerSettings, idf: Floats, scaler: ShapeScaler, gate: SignalGate
) -> tuple[csr_matrix, Floats]:
    """Return the sparse columns (lexical, then the structure of the row's own shape) and the few dense ones."""
    counts = rows.counts.astype(np.float64)
    counts.data = 1.0 + np.log(counts.data)
    lexical = counts @ diags(idf)
    norm = np.sqrt(np.asarray(lexical.multiply(lexical).sum(axis=1)).ravel())
    lexical = diags(settings.lexical_scale / np.where(norm > 0, norm, 1.0)) @ lexical
    whole, own = scaler.blocks(rows)
    small = np.column_stack(
        (
            np.clip(rows.first, -FIRST_CLIP, FIRST_CLIP) * settings.first_scale,
            whole * settings.structure_scale,
            np.eye(len(Shape))[rows.shape] * settings.shape_scale,
            gate.features(rows) * settings.signal_scale,
        )
    )
    return csr_matrix(hstack([lexical, own * settings.shape_structure_scale], format="csr")), small


@dataclass(frozen=True)
class SignalHead:
    """slope * curve + an intercept for each kind: what answers where the prompt is unlike the training data.

    It is served as fitted. A line fitted on sources left out whole made it worse: ECE 0.040, 0.097, 0.084 and 0.020 on
    the four held out, 0.045, 0.032, 0.037 and 0.020 without.

    Attributes:
        base, slope: of the regression; a more certain model never counts as a worse one.
        offsets: (2,) of the kinds.
        gate: which kinds count in which shapes.
        held_out: (n,) log-odds of each row from a fit without its source; NaN without a signal.
    """

    base: float
    slope: float
    offsets: Floats
    gate: SignalGate
    held_out: Floats = field(repr=False, default_factory=lambda: np.empty(0))

    def log_odds(self, rows: CheckRows) -> Floats:
        """Return (n,) log-odds; NaN where no signal counts."""
        features = self.gate.features(rows)
        odds = self.base + self.slope * features[:, 0] + features[:, 1:] @ self.offsets
        return np.where(features[:, 1:].sum(axis=1) > 0, odds, np.nan)


NO_SIGNAL_HEAD = SignalHead(0.0, 0.0, np.zeros(2), SignalGate(np.zeros((len(Shape), len(SIGNALS)), dtype=bool)))


def fit_signal_head(rows: CheckRows, match: Ints, source: NDArray[np.str_], group: Ints) -> SignalHead:
    """Fit on the rows with a signal; each also gets what a fit without its source says of it, its groups left out.

    Where only one source has signals, its groups are left out by folds instead.
    """
    gate = SignalGate.fitted(rows)
    features = gate.features(rows)
    known = np.flatnonzero(features[:, 1:].sum(axis=1) > 0)
    if known.size < MIN_CELL_ROWS or np.unique(match[known]).size < 2:
        return NO_SIGNAL_HEAD
    held = np.full(match.size, np.nan)
    for out in _left_out(known, source, group):
        rest = known[~np.isin(group[known], group[out])]
        if np.unique(match[rest]).size == 2:
            held[out] = _linear(features[rest], match[rest]).decision_function(features[out])
    whole = _linear(features[known], match[known])
    slope, *offsets = whole.coef_[0]
    return SignalHead(float(whole.intercept_[0]), float(slope), np.array(offsets), gate, held)


def _left_out(known: Ints, source: NDArray[np.str_], group: Ints) -> list[Ints]:
    names = np.unique(source[known])
    if names.size > 1:
        return [known[source[known] == name] for name in names]
    n_folds = min(N_FOLDS, np.unique(group[known]).size)
    return [known[out] for _, out in GroupKFold(n_folds).split(known, groups=group[known])]


def _linear(features: Floats, match: Ints) -> LogisticRegression:
    return LogisticRegression(C=1.0, max_iter=500).fit(features, match)
