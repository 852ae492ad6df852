"""Many rows: the router of more rows than fit into memory several times over.

Comes in: `LessonRows`, and the source of each row. Goes out: what `out_of_fold` and `fit_router` give of fewer rows.

On more than twice `CHOSEN_ON` rows the settings are chosen on so many of them. On more than `COPIED` the folds share
one design: what a fold holds out has weight 0 in its fit, the n-grams' document frequencies (which know no label) are
those of all rows, and vectors are widened from half precision some at a time. Each fold starts from the fit on a part
of its own rows, and the fit on all rows from the mean of the folds (docs/decisions/training/0019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.model_selection import GroupKFold

from turnout.training.arrays import Floats, Ints
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.fit.fit import (
    STRONG_ONLY,
    FitSettings,
    Head,
    LinearRouter,
    Scaler,
    Target,
    fit_router,
    fit_scaler,
    match_log_odds,
    soft_target,
)
from turnout.training.fit.out_of_fold import N_FOLDS, LessonRows, OutOfFold, out_of_fold
from turnout.training.fit.solver import Design, Singles, Solution, SparseBlock, fit_logistic

CHOSEN_ON = 30_000

COPIED = 100_000
"""Rows up to which every fold has a copy of its own, some 10 kB a row, and a process beside others."""

JUDGED = 200_000
"""Rows that calibrators, policies and figures rest on, at most: `max_worse=0.005` is met at a share of 0.00477 there,
at 0.00490 on a million rows."""

START_SHARE = 8
"""A fold's fit begins where that of one in so many of its rows ends: of 120,000 perturbed rows the full head takes 30
evaluations then and 43 from nothing: 18.0 instead of 25.8 CPU-seconds, the start counted. A third saves less."""

TOLERANCE = 3e-4
"""Of the fits of many rows, three times that of others: at 4e-4 a third of the evaluations is saved on 31,292 reference
rows, for 0.0004 AUROC and a log loss higher by 0.00013 (standard error 0.00011)."""

AT_ONCE = 20_000


def some_groups(group: Ints, source: Sequence[str], n: int, seed: int) -> Ints:
    """Return the numbers of about n rows, ascending: whole groups by chance, of each source the same share.

    Args:
        group: (m,) which rows stay together.
        source: of each row; a group counts to that of its first row.
        n: rows wanted; all m where it is no less.
        seed: of the draw.
    """
    if n >= group.size:
        return np.arange(group.size)
    _, first, place, size = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
    stratum = np.unique(np.asarray(source, dtype=np.str_)[first], return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(first.size)
    order = order[np.argsort(stratum[order], kind="stable")]
    rows = np.bincount(stratum, weights=size)
    before = np.cumsum(size[order]) - size[order] - (np.cumsum(rows) - rows)[stratum[order]]
    is_taken = np.zeros(first.size, dtype=bool)
    is_taken[order] = before < rows[stratum[order]] * (n / group.size)
    return np.flatnonzero(is_taken[place])


def choose_on_some(
    lessons: LessonRows, candidates: Sequence[FitSettings], source: Sequence[str], seed: int
) -> list[FitSettings]:
    """Return the candidates themselves, or of many rows the one that is best on `CHOSEN_ON` of them.

    On fewer than twice so many the answers of the choice are of more use: five folds less are to be fitted.
    """
    if len(candidates) == 1 or lessons.match.size <= 2 * CHOSEN_ON:
        return list(candidates)
    some = some_groups(lessons.group, source, CHOSEN_ON, seed)
    n_jobs = 1 if lessons.match.size > COPIED else -1  # beside so many rows others have no room
    return [out_of_fold(lessons.take(some), candidates, n_jobs=n_jobs).settings]


def fit_and_answer(
    lessons: LessonRows, candidates: Sequence[FitSettings], *, copied: int = COPIED, n_jobs: int = -1
) -> tuple[OutOfFold, LinearRouter]:
    """Fit the router on all rows, and say what each row is told without its group.

    Args:
        lessons: n rows in at least `N_FOLDS` groups.
        candidates: settings; the first alone counts where the rows are more than `copied`.
        copied: rows up to which every fold has a copy.
        n_jobs: processes, as joblib counts them, of folds with copies.
    """
    if lessons.match.size > copied:
        return _Shared.of(lessons, candidates[0]).fitted()
    found = out_of_fold(lessons, candidates, n_jobs=n_jobs)
    outcome = lessons.targets[found.settings.form]
    return found, fit_router(
        lessons.table, outcome, found.settings, weight=lessons.weight, difficulty=lessons.difficulty
    )


@dataclass(frozen=True)
class DenseBlock:
    """The dense block of many rows: structural measures, vectors in any precision, an intercept; acts as a matrix.

    Attributes:
        structural: (n, 16) float32.
        raw: (n, dim), as they are kept.
        factor: (n, 1) float32, which gives each vector its length.
    """

    structural: Singles
    raw: NDArray[np.floating]
    factor: Singles

    @classmethod
    def of(cls, table: FeatureTable, scaler: Scaler, structural: Singles) -> DenseBlock:
        """Return the block of a table's rows, whose measures are scaled already."""
        length = np.empty((len(table.dense), 1), np.float32)
        for some in _pieces(len(length)):
            length[some, 0] = np.linalg.norm(table.dense[some].astype(np.float32), axis=1)
        return cls(structural, table.dense, np.float32(scaler.dense_scale) / length)

    def take(self, rows: Ints) -> DenseBlock:
        """Return the block of some rows."""
        return DenseBlock(self.structural[rows], self.raw[rows], self.factor[rows])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and columns with the intercept's."""
        return len(self.raw), self.structural.shape[1] + self.raw.shape[1] + 1

    @property
    def T(self) -> _Turned:  # noqa: N802
        """The same transposed."""
        return _Turned(self)

    def __matmul__(self, coefficients: Singles) -> Singles:
        """Return (n, k) for (q, k)."""
        return np.concatenate([self.wide(some) @ coefficients for some in _pieces(len(self.raw))])

    def wide(self, some: slice) -> Singles:
        """Return some of the rows in single precision."""
        found = np.ones((len(self.raw[some]), self.shape[1]), np.float32)
        first = self.structural.shape[1]
        found[:, :first] = self.structural[some]
        np.multiply(self.raw[some], self.factor[some], out=found[:, first:-1])
        return found


@dataclass(frozen=True)
class _Turned:
    vectors: DenseBlock

    def __matmul__(self, residual: Singles) -> Singles:
        """Return (q, k) for (n, k)."""
        parts = (self.vectors.wide(some).T @ residual[some] for some in _pieces(len(residual)))
        return np.asarray(sum(parts), dtype=np.float32)

    def gram(self) -> Floats:
        """Return the (q, q) inner products of the columns."""
        wide = (self.vectors.wide(some) for some in _pieces(len(self.vectors.raw)))
        return np.asarray(sum((one.T @ one).astype(np.float64) for one in wide), dtype=np.float64)


@dataclass(frozen=True)
class _Shared:
    """What the fits of all folds read."""

    lessons: LessonRows
    settings: FitSettings
    scaler: Scaler
    target: Target
    fold: Ints
    vectors: DenseBlock
    full: Design
    fast: Design

    @classmethod
    def of(cls, lessons: LessonRows, settings: FitSettings) -> _Shared:
        scaler = fit_scaler(lessons.table, settings)
        fold = np.empty(lessons.match.size, np.int64)
        for number, (_, held) in enumerate(GroupKFold(N_FOLDS).split(fold, groups=lessons.group)):
            fold[held] = number
        sparse = _sparse(lessons.table.counts, scaler)
        wide = np.ones((fold.size, scaler.structural_mean.size + 1), np.float32)
        wide[:, :-1] = scaler.structural(lessons.table.structural)
        fast = Design(sparse, wide, np.asarray(wide.T @ wide, dtype=np.float64))
        vectors = DenseBlock.of(lessons.table, scaler, wide[:, :-1])
        full, target = Design(sparse, vectors, vectors.T.gram()), _target(lessons, settings, fold)
        return cls(lessons, settings, scaler, target, fold, vectors, full, fast)

    def fitted(self) -> tuple[OutOfFold, LinearRouter]:
        """Fit each fold, then all rows."""
        told_fast, told_full = np.empty((2, self.fold.size))
        fasts, fulls = [], []
        for number in range(N_FOLDS):
            held = self.fold == number
            full, fast = self._fit(~held, self._start(np.flatnonzero(~held)))
            for design, found, told in ((self.full, full, told_full), (self.fast, fast, told_fast)):
                logits = design.logits(found.sparse, found.dense)[held].astype(np.float64)
                told[held] = match_log_odds(logits, self.target.matches)
            fulls.append(full)
            fasts.append(fast)
        full, fast = self._fit(np.ones(self.fold.size, dtype=bool), _mean(fulls), _mean(fasts))
        answers = OutOfFold(self.settings, (self.settings,) * N_FOLDS, self.fold, told_fast, told_full)
        heads = self._head(fast, with_dense=False), self._head(full, with_dense=True)
        return answers, LinearRouter(self.scaler, *heads)

    def _fit(
        self, taught: NDArray[np.bool_], start: Solution, near: Solution | None = None
    ) -> tuple[Solution, Solution]:
        """Return the full and the fast head of the rows that teach, begun at `start` and `near`."""
        whole = np.ones(taught.size) if self.lessons.weight is None else self.lessons.weight
        weight = np.where(taught, whole, 0.0)
        full = self._solved(self.full, weight, start)
        if near is None:
            first = self.scaler.structural_mean.size
            mean = np.average(self.full.dense @ _only_vectors(full, first), axis=0, weights=weight)[None, :]
            near = replace(full, dense=np.vstack([full.dense[:first], full.dense[-1:] + mean.astype(np.float32)]))
        return full, self._solved(self.fast, weight, near)

    def _solved(self, design: Design, weight: Floats, start: Solution) -> Solution:
        share, c = self.target.share, self.settings.c
        return fit_logistic(design, share, c, weight=weight, start=start, tolerance=TOLERANCE)

    def _start(self, taught: Ints) -> Solution:
        """Return what the fit on a part of the rows comes to, in the columns of all."""
        lessons = self.lessons
        part = taught[some_groups(lessons.group[taught], [""] * taught.size, taught.size // START_SHARE, seed=0)]
        vectors = self.vectors.take(part)
        design = Design(SparseBlock.of(self.full.sparse.rows[part]), vectors, vectors.T.gram())
        weight = None if lessons.weight is None else lessons.weight[part]
        return fit_logistic(design, self.target.share[part], self.settings.c, weight=weight)

    def _head(self, found: Solution, *, with_dense: bool) -> Head:
        first = self.scaler.structural_mean.size
        dense = found.dense[first:-1] if with_dense else None
        return Head(found.sparse, found.dense[:first], dense, found.dense[-1], self.target.matches)


def _only_vectors(found: Solution, first: int) -> Singles:
    only = np.zeros_like(found.dense)
    only[first:-1] = found.dense[first:-1]
    return only


def _mean(several: Sequence[Solution]) -> Solution:
    sparse, dense = (np.mean([getattr(one, part) for one in several], axis=0) for part in ("sparse", "dense"))
    return replace(several[0], sparse=sparse.astype(np.float32), dense=dense.astype(np.float32))


def _sparse(counts: csr_matrix, scaler: Scaler) -> SparseBlock:
    """Return the lexical part of all rows, scaled some at a time; its places are those of the counts themselves."""
    data = np.empty(counts.nnz, np.float32)
    for some in _pieces(counts.shape[0]):
        data[counts.indptr[some.start] : counts.indptr[some.stop]] = scaler.lexical(counts[some]).data
    return SparseBlock.of(csr_matrix((data, counts.indices, counts.indptr), counts.shape))


def _target(lessons: LessonRows, settings: FitSettings, fold: Ints) -> Target:
    """Return the target of all rows; other models' scores soften that of each fold by itself."""
    outcome = lessons.targets[settings.form]
    target = Target.of(outcome, settings.form)
    if lessons.difficulty is None or target.matches.size == 1:
        return target
    share = np.empty((outcome.size, STRONG_ONLY + 3))
    for number in range(N_FOLDS):
        rows = np.flatnonzero(fold == number)
        share[rows] = soft_target(outcome[rows], settings.form, lessons.difficulty.take(rows))
    return Target(share, np.arange(share.shape[1]) != STRONG_ONLY)


def _pieces(n: int) -> list[slice]:
    return [slice(start, min(n, start + AT_ONCE)) for start in range(0, n, AT_ONCE)]
