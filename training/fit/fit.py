"""Fit: features and labels to one linear router.

Comes in: `FeatureTable` and labels of the rows that teach. Goes out: `LinearRouter`: one logistic regression
(`training.fit.solver`) over the lexical, structural and dense parts (the full head), and one over the first two (the
fast head).

The fit is binary on `match`, or on four outcomes (both right, strong only, weak only, both wrong)
with `z = log(P(not strong only) / P(strong only))`: that form also learns from rows where both
models fail, which the binary one throws together with those where both succeed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import logsumexp

from turnout.serving.router.features import N_BUCKETS
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.fit.difficulty import Difficulty
from turnout.training.fit.solver import Design, Solution, SparseBlock, fit_logistic

STRUCTURAL_CLIP = 5.0
STRONG_ONLY = 1
"""The outcome that costs quality: the strong model right, the weak one wrong."""

IDF_POWER = 2.0
"""Rare pieces count for more than in plain TF-IDF: +0.003 AUROC and +0.007 APGR on average over eight confirmation
splits, within source unchanged; flat between 2 and 3 (docs/decisions/training/0004)."""

SCALED_AT_ONCE = 20_000
COUNTED_AT_ONCE = 1 << 22

MIN_DOCUMENTS = 2
"""A bucket seen in one row only teaches that row: leaving it out changes AUROC by less than 0.001 and
drops a third of the columns."""


@dataclass(frozen=True)
class FitSettings:
    """What cross-validation chooses.

    Attributes:
        c: inverse regularisation, as scikit-learn's LogisticRegression has it.
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
        data = (1.0 + np.log(counts.data.astype(np.float64))) * self.idf[counts.indices]
        sizes = np.diff(counts.indptr)
        row = np.repeat(np.arange(sizes.size, dtype=np.int32), sizes)
        norm = np.sqrt(np.bincount(row, data * data, minlength=sizes.size))
        data /= norm[row]
        return csr_matrix((data, counts.indices, counts.indptr), counts.shape)

    def structural(self, raw: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (n, 16) standardised, clipped and scaled measures."""
        scaled = (raw.astype(np.float64) - self.structural_mean) * self.structural_factor
        return np.asarray(np.clip(scaled, -self.structural_clip, self.structural_clip), dtype=np.float64)

    def dense(self, raw: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (n, dim) vectors of length `dense_scale`."""
        wide = raw.astype(np.float64)
        wide *= self.dense_scale / np.linalg.norm(wide, axis=1, keepdims=True)
        return wide

    def unit(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (n, dim) vectors of length 1, some at a time: in double precision all of them would be held twice."""
        found = np.empty(raw.shape, np.float32)
        for start in range(0, len(raw), SCALED_AT_ONCE):
            some = slice(start, start + SCALED_AT_ONCE)
            found[some] = replace(self, dense_scale=1.0).dense(raw[some])
        return found


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
        return match_log_odds(logits, self.matches)


def match_log_odds(logits: NDArray[np.float64], matches: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return (n,) log-odds of a match of (n, K) logits; `matches` is (K,), (False,) when binary."""
    if matches.size == 1:
        return np.asarray(logits[:, 0])
    odds = logsumexp(logits[:, matches], axis=1) - logsumexp(logits[:, ~matches], axis=1)
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
    frequency = document_frequency(table.counts)
    deviation = table.structural.std(axis=0, dtype=np.float64)
    varies = deviation > 1e-6
    factor = np.where(varies, settings.structural_scale / np.where(varies, deviation, 1.0), 0.0)
    return Scaler(
        idf=idf_of(frequency, n_rows).astype(np.float32),
        structural_mean=table.structural.mean(axis=0, dtype=np.float64).astype(np.float32),
        structural_factor=factor.astype(np.float32),
        structural_clip=STRUCTURAL_CLIP * settings.structural_scale,
        dense_scale=settings.dense_scale,
    )


def idf_of(document_frequency: NDArray[np.int64], n_rows: int) -> NDArray[np.float64]:
    """Return the weight of n-grams that so many of `n_rows` rows hold; it falls with each row more."""
    return np.asarray((np.log((1.0 + n_rows) / (1.0 + document_frequency)) + 1.0) ** IDF_POWER, dtype=np.float64)


@dataclass(frozen=True)
class Target:
    """What a regression is fitted to.

    Attributes:
        share: (n, k) share of each outcome; (n, 1) `match` where the fit is binary.
        matches: (k,) which outcomes are a match; (False,) when binary.
    """

    share: NDArray[np.float64]
    matches: NDArray[np.bool_]

    @classmethod
    def of(cls, outcome: NDArray[np.int64], form: str, soft: NDArray[np.float64] | None = None) -> Target:
        """Return the target of (n,) outcomes; `soft` (n, 4), rows summing to 1, takes their place in four outcomes.

        Where only two outcomes occur, `match` itself is fitted: two classes have one logit, that of the second.
        """
        names, place = np.unique(outcome, return_inverse=True)
        if form == "binary" or names.size <= 2:
            match = outcome if form == "binary" else outcome != STRONG_ONLY
            return cls(match[:, None].astype(np.float64), np.array([False]))
        if soft is not None:
            return cls(soft, np.arange(soft.shape[1]) != STRONG_ONLY)
        return cls(np.eye(names.size)[place], names != STRONG_ONLY)


@dataclass(frozen=True)
class Blocks:
    """The scaled parts of the rows that one fit learns from, made once for all candidates.

    Attributes:
        scaler: as fitted on the rows; its dense scale is that of the head to be.
        kept: (p,) buckets that at least `MIN_DOCUMENTS` rows hold.
        lexical: (n, p).
        structural: (n, 16) float32.
        dense: (n, dim) float32, of length 1.
    """

    scaler: Scaler
    kept: NDArray[np.int64]
    lexical: SparseBlock
    structural: NDArray[np.float32]
    dense: NDArray[np.float32]

    @classmethod
    def of(cls, table: FeatureTable, scaler: Scaler) -> Blocks:
        """Scale the parts of n rows."""
        kept = np.flatnonzero(document_frequency(table.counts) >= MIN_DOCUMENTS)
        lexical = SparseBlock.of(scaler.lexical(table.counts)[:, kept])
        structural = scaler.structural(table.structural).astype(np.float32)
        return cls(scaler, kept, lexical, structural, scaler.unit(table.dense))

    def design(self, dense_scale: float) -> Design:
        """Return the design of the full head, or of the fast one at a dense scale of 0."""
        parts = [self.structural] if dense_scale == 0.0 else [self.structural, np.float32(dense_scale) * self.dense]
        return Design.of(self.lexical, np.hstack(parts))

    def head(self, found: Solution, matches: NDArray[np.bool_], *, with_dense: bool) -> Head:
        """Return the coefficients as the router keeps them."""
        n_structural = self.structural.shape[1]
        lexical = np.zeros((N_BUCKETS, found.dense.shape[1]), np.float32)
        lexical[self.kept] = found.sparse
        dense = found.dense[n_structural:-1] if with_dense else None
        return Head(lexical, found.dense[:n_structural], dense, found.dense[-1], matches)

    def rescaled(self, found: Solution, factor: float) -> Solution:
        """Return the coefficients that say the same of a dense part `1 / factor` as long: a start for its fit."""
        dense = found.dense.copy()
        dense[self.structural.shape[1] : -1] *= np.float32(factor)
        return replace(found, dense=dense)

    def without_dense(self, found: Solution, dense_scale: float) -> Solution:
        """Return a full head's coefficients without its dense part, but for its mean: a start for the fast head."""
        n_structural = self.structural.shape[1]
        mean = (found.dense[n_structural:-1].T @ self.dense.mean(axis=0))[None, :] * np.float32(dense_scale)
        return replace(found, dense=np.vstack([found.dense[:n_structural], found.dense[-1:] + mean]))


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
    target = Target.of(outcome, settings.form, soft_target(outcome, settings.form, difficulty))
    blocks = Blocks.of(table, scaler)
    full = fit_logistic(blocks.design(settings.dense_scale), target.share, settings.c, weight=weight)
    near = blocks.without_dense(full, settings.dense_scale)
    fast = fit_logistic(blocks.design(0.0), target.share, settings.c, weight=weight, start=near)
    return LinearRouter(
        scaler,
        blocks.head(fast, target.matches, with_dense=False),
        blocks.head(full, target.matches, with_dense=True),
    )


def soft_target(outcome: NDArray[np.int64], form: str, difficulty: Difficulty | None) -> NDArray[np.float64] | None:
    """Return (n, 4) what other models' scores make of the outcomes; None where they have no say."""
    return difficulty.soften(outcome) if difficulty and form == "four_outcomes" else None


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
    """Fit one regression on the scaled parts, with or without the dense one; arguments as in `fit_router`."""
    target, blocks = Target.of(outcome, settings.form, soft), Blocks.of(table, scaler)
    design = blocks.design(scaler.dense_scale if with_dense else 0.0)
    found = fit_logistic(design, target.share, settings.c, weight=weight)
    return blocks.head(found, target.matches, with_dense=with_dense)


def outcome_classes(
    match: NDArray[np.int64], strong_score: NDArray[np.float64], weak_score: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return (n,) int64: 0 both right, 1 strong only, 2 weak only, 3 both wrong.

    The label rules: a row is class 1 exactly when it is no match. Among the matches a score of at
    least 0.5 counts as right.
    """
    among_matches = np.where(weak_score >= 0.5, np.where(strong_score >= 0.5, 0, 2), 3)
    return np.where(match == 0, STRONG_ONLY, among_matches).astype(np.int64)


def document_frequency(counts: csr_matrix) -> NDArray[np.int64]:
    """Return (2**18,) in how many of the rows each bucket occurs; counted some at a time, for numpy widens them."""
    found = np.zeros(counts.shape[1], np.int64)
    for start in range(0, counts.indices.size, COUNTED_AT_ONCE):
        found += np.bincount(counts.indices[start : start + COUNTED_AT_ONCE], minlength=found.size)
    return found
