"""Fit: features and labels to one linear router.

Comes in: `FeatureTable` and labels of the rows that teach. Goes out: `LinearRouter`: one LogisticRegression
over the lexical, structural and dense parts (the full head), and one over the first two (the fast head).

The fit is binary on `match`, or on four outcomes (both right, strong only, weak only, both wrong)
with `z = log(P(not strong only) / P(strong only))`: that form also learns from rows where both
models fail, which the binary one throws together with those where both succeed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags, hstack
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from turnout.serving.router.features import N_BUCKETS
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.fit.difficulty import Difficulty

STRUCTURAL_CLIP = 5.0
STRONG_ONLY = 1
"""The outcome that costs quality: the strong model right, the weak one wrong."""

MAX_ITERATIONS = 100
"""newton-cg converges in about 10 (5.6 s on 12,434 rows); lbfgs took 96 to 137 and twice the time."""

IDF_POWER = 2.0
"""Rare pieces count for more than in plain TF-IDF: +0.003 AUROC and +0.007 APGR on average over eight confirmation
splits, within source unchanged; flat between 2 and 3 (docs/decisions/training/0004)."""

LEAST_TARGET = 0.01
"""An outcome with a smaller part in a soft target is left out: it would add a row to the fit and teach nothing."""

MIN_DOCUMENTS = 2
"""A bucket seen in one row only teaches that row: leaving it out changes AUROC by less than 0.001 and
drops a third of the columns."""


@dataclass(frozen=True)
class FitSettings:
    """What cross-validation chooses.

    Attributes:
        c: inverse regularisation of LogisticRegression.
        structural_scale: factor on the standardised structural part before the fit.
        dense_scale: factor on the unit-length dense part before the fit; the scale of a part is its
            regularisation, and a small one leaves more of the routes to the fast head.
        form: `binary` or `four_outcomes`.
    """

    c: float = 1.0
    structural_scale: float = 0.1
    dense_scale: float = 1.0
    form: str = "four_outcomes"


@dataclass(frozen=True)
class Scaler:
    """The fitted scale of each part.

    Attributes:
        idf: (2**18,) float32, weight of each bucket: its inverse document frequency, squared.
        structural_mean: (16,) float32.
        structural_factor: (16,) float32, scale / standard deviation; 0 where training had no variance.
        structural_clip: largest absolute value of a scaled structural measure.
        dense_scale: factor on the unit-length dense vector.
    """

    idf: NDArray[np.float32]
    structural_mean: NDArray[np.float32]
    structural_factor: NDArray[np.float32]
    structural_clip: float
    dense_scale: float

    def lexical(self, counts: csr_matrix) -> csr_matrix:
        """Return (n, 2**18) sublinear TF-IDF rows of unit length; an empty row stays empty."""
        weighted = counts.astype(np.float64)
        weighted.data = 1.0 + np.log(weighted.data)
        weighted = weighted @ diags(self.idf.astype(np.float64))
        norm = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
        return csr_matrix(diags(1.0 / np.where(norm > 0, norm, 1.0)) @ weighted)

    def structural(self, raw: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (n, 16) standardised, clipped and scaled measures."""
        scaled = (raw.astype(np.float64) - self.structural_mean) * self.structural_factor
        return np.asarray(np.clip(scaled, -self.structural_clip, self.structural_clip), dtype=np.float64)

    def dense(self, raw: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (n, dim) vectors of length `dense_scale`."""
        wide = raw.astype(np.float64)
        unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
        return np.asarray(unit * self.dense_scale, dtype=np.float64)


@dataclass(frozen=True)
class Head:
    """One fitted regression, its coefficients split by part; K is 1 (binary) or the number of outcomes.

    Attributes:
        lexical: (2**18, K) float32.
        structural: (16, K) float32.
        dense: (dim, K) float32; None in the fast head, which does without the encoder.
        intercept: (K,) float32.
        matches: (K,) bool, which outcomes are a match; (False,) when binary.
    """

    lexical: NDArray[np.float32]
    structural: NDArray[np.float32]
    dense: NDArray[np.float32] | None
    intercept: NDArray[np.float32]
    matches: NDArray[np.bool_]

    @property
    def is_binary(self) -> bool:
        """Whether the fit was on `match` itself."""
        return self.matches.size == 1

    def log_odds(self, scaler: Scaler, table: FeatureTable) -> NDArray[np.float64]:
        """Return (n,) uncalibrated log-odds of a match."""
        logits = (
            scaler.lexical(table.counts) @ self.lexical.astype(np.float64)
            + scaler.structural(table.structural) @ self.structural.astype(np.float64)
            + self.intercept.astype(np.float64)
        )
        if self.dense is not None:
            logits = logits + scaler.dense(table.dense) @ self.dense.astype(np.float64)
        if self.is_binary:
            return np.asarray(logits[:, 0])
        odds = logsumexp(logits[:, self.matches], axis=1) - logsumexp(logits[:, ~self.matches], axis=1)
        return np.asarray(odds, dtype=np.float64)


@dataclass(frozen=True)
class LinearRouter:
    """Both heads over the same scaled parts.

    Attributes:
        scaler: the scale of the parts.
        fast: fitted on the lexical and structural parts.
        full: fitted on all three.
    """

    scaler: Scaler
    fast: Head
    full: Head

    def log_odds(self, table: FeatureTable) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the uncalibrated log-odds of a match, (n,) of the fast head and (n,) of the full one."""
        return self.fast.log_odds(self.scaler, table), self.full.log_odds(self.scaler, table)


def fit_scaler(table: FeatureTable, settings: FitSettings) -> Scaler:
    """Return the scale of the parts as the fit rows give it."""
    n_rows = table.counts.shape[0]
    document_frequency = _document_frequency(table)
    deviation = table.structural.std(axis=0, dtype=np.float64)
    varies = deviation > 1e-6
    factor = np.where(varies, settings.structural_scale / np.where(varies, deviation, 1.0), 0.0)
    return Scaler(
        idf=idf_of(document_frequency, n_rows).astype(np.float32),
        structural_mean=table.structural.mean(axis=0, dtype=np.float64).astype(np.float32),
        structural_factor=factor.astype(np.float32),
        structural_clip=STRUCTURAL_CLIP * settings.structural_scale,
        dense_scale=settings.dense_scale,
    )


def idf_of(document_frequency: NDArray[np.int64], n_rows: int) -> NDArray[np.float64]:
    """Return the weight of n-grams that so many of `n_rows` rows hold; it falls with each row more."""
    return np.asarray((np.log((1.0 + n_rows) / (1.0 + document_frequency)) + 1.0) ** IDF_POWER, dtype=np.float64)


def fit_router(
    table: FeatureTable,
    outcome: NDArray[np.int64],
    settings: FitSettings,
    *,
    weight: NDArray[np.float64] | None = None,
    difficulty: Difficulty | None = None,
) -> LinearRouter:
    """Fit both heads.

    The fast head has a fit of its own: the lexical and structural share of the full one is a worse ranking
    and sends twice as many prompts to the encoder (docs/decisions/training/0005).

    Args:
        table: features of the fit rows.
        outcome: (n,) `match` when the form is binary, else the class of `outcome_classes`.
        settings: form, C and scales.
        weight: (n,) non-negative, such as 1 / pair propensity; equal when None.
        difficulty: other models' scores of the fit rows, which soften the four outcomes; unused in the binary form.
    """
    scaler = fit_scaler(table, settings)
    soft = difficulty.soften(outcome) if difficulty and settings.form == "four_outcomes" else None
    fast = fit_head(scaler, table, outcome, settings, with_dense=False, weight=weight, soft=soft)
    full = fit_head(scaler, table, outcome, settings, with_dense=True, weight=weight, soft=soft)
    return LinearRouter(scaler, fast, full)


def fit_head(
    scaler: Scaler,
    table: FeatureTable,
    outcome: NDArray[np.int64],
    settings: FitSettings,
    *,
    with_dense: bool,
    weight: NDArray[np.float64] | None = None,
    soft: NDArray[np.float64] | None = None,
) -> Head:
    """Fit one regression on the scaled parts, with or without the dense one; arguments as in `fit_router`.

    Where only two outcomes occur, `match` itself is fitted: two classes have one logit, that of the second.
    `soft` (n, 4) takes the place of more outcomes than that; rows sum to 1.
    """
    is_binary = settings.form == "binary" or np.unique(outcome).size <= 2
    if is_binary and settings.form != "binary":
        outcome = (outcome != STRONG_ONLY).astype(np.int64)
    kept = np.flatnonzero(_document_frequency(table) >= MIN_DOCUMENTS)
    blocks = [scaler.lexical(table.counts)[:, kept], scaler.structural(table.structural)]
    if with_dense:
        blocks.append(scaler.dense(table.dense))
    features = hstack([csr_matrix(block) for block in blocks], format="csr")
    if soft is not None and not is_binary:
        features, outcome, weight = _one_row_an_outcome(features, soft, weight)
    regression = LogisticRegression(C=settings.c, solver="newton-cg", max_iter=MAX_ITERATIONS)
    regression.fit(features, outcome, sample_weight=weight)
    coefficients = regression.coef_.T.astype(np.float32)
    kept_part, structural, dense = np.split(coefficients, [kept.size, kept.size + table.structural.shape[1]])
    lexical = np.zeros((N_BUCKETS, coefficients.shape[1]), dtype=np.float32)
    lexical[kept] = kept_part
    return Head(
        lexical=lexical,
        structural=structural,
        dense=dense if with_dense else None,
        intercept=regression.intercept_.astype(np.float32),
        matches=np.array([False]) if is_binary else regression.classes_ != STRONG_ONLY,
    )


def outcome_classes(
    match: NDArray[np.int64], strong_score: NDArray[np.float64], weak_score: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return (n,) int64: 0 both right, 1 strong only, 2 weak only, 3 both wrong.

    The label rules: a row is class 1 exactly when it is no match. Among the matches a score of at
    least 0.5 counts as right.
    """
    among_matches = np.where(weak_score >= 0.5, np.where(strong_score >= 0.5, 0, 2), 3)
    return np.where(match == 0, STRONG_ONLY, among_matches).astype(np.int64)


def _one_row_an_outcome(
    features: csr_matrix, soft: NDArray[np.float64], weight: NDArray[np.float64] | None
) -> tuple[csr_matrix, NDArray[np.int64], NDArray[np.float64]]:
    """Say soft targets with weights, which is all that LogisticRegression takes; the loss is the same."""
    row, outcome = np.nonzero(soft >= LEAST_TARGET)
    part = soft[row, outcome] / np.where(soft >= LEAST_TARGET, soft, 0.0).sum(axis=1)[row]
    return features[row], outcome, part if weight is None else part * weight[row]


def _document_frequency(table: FeatureTable) -> NDArray[np.int64]:
    return np.bincount(table.counts.indices, minlength=N_BUCKETS)
