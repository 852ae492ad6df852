"""Fit the second look: one logistic regression over prompt, answer and signals.

Comes in: `CheckRows`, whose first look never saw the row's group. Goes out: `Checker`, linear in features that cost
microseconds; `training.check.out_of_fold` calibrates it, `training.check.signal_head` is its stand-in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, diags, hstack

from turnout.serving.router.answer_features import SIGNALS, Shape
from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.check.rows import CheckRows
from turnout.training.fit.calibrators import Beta
from turnout.training.fit.fit import idf_of
from turnout.training.fit.solver import Design, SparseBlock, fit_logistic

MIN_CELL_ROWS = 50
"""A kind of signal counts in a shape of answer where so many rows taught it; a self-check in all shapes or in none."""

STRUCTURE_CLIP, FIRST_CLIP = 5.0, 8.0
MIN_DOCUMENTS = 2
LEAST_SURPRISE, MOST_SURPRISE = 1e-7, 20.0


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
        return np.asarray(self.parts(rows).sum(axis=1) + self.intercept)

    def parts(self, rows: CheckRows) -> Floats:
        """Return (n, 3) log-odds that prompt, answer and signals add to the intercept."""
        sparse, small = _design(rows, self.settings, self.idf, self.scaler, self.gate)
        coefficients = np.concatenate((self.lexical, self.own.ravel()))
        ends = (1, 1 + rows.structure.shape[1] + len(Shape))  # of the first look, of structure and shapes
        prompt, form, signals = np.split(small * self.small, ends, axis=1)
        answer = np.asarray(sparse @ coefficients) + form.sum(axis=1)
        return np.column_stack((prompt.sum(axis=1), answer, signals.sum(axis=1)))

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
