"""Heads of the rungs between: for each, p that it is not worse than the top, from words and structure alone.

Comes in: features of rows and the labels of each rung, where a row has them. Goes out: `RungFit`, calibrated, and what
each row was told by fits without its group.

The recipe is that of the fast head in its binary form: one column of weights, where four outcomes need four. To stay
under 1 MiB a rung, weights have sixteen bits and n-grams that as many rows hold share one inverse document frequency in
a table of 256 (docs/decisions/training/0020). The Python path rounds the same way, so that the graph says what it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.model_selection import GroupKFold

from turnout.serving.router.features import N_BUCKETS
from turnout.training.arrays import Floats, Ints
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.fit.calibrators import LogitLine, fit_platt
from turnout.training.fit.fit import Blocks, FitSettings, Head, Scaler, Target, fit_scaler, idf_of
from turnout.training.fit.losses import row_losses
from turnout.training.fit.out_of_fold import N_FOLDS
from turnout.training.fit.select import C_GRID, FEW_ROWS, choose
from turnout.training.fit.solver import fit_logistic

LEVELS = 256
EXACT_LEVELS = 192
"""Document frequencies up to it have a level each; 64 more, in equal ratios, serve all above."""


@dataclass(frozen=True)
class Frequencies:
    """Inverse document frequencies in a table.

    Attributes:
        level: (2**18,) uint8, which of the table's a bucket has.
        idf: (256,) float32.
    """

    level: NDArray[np.uint8]
    idf: NDArray[np.float32]

    @classmethod
    def of(cls, table: FeatureTable) -> Frequencies:
        """Count how many of the rows hold each bucket."""
        n_rows = table.counts.shape[0]
        frequency = np.bincount(table.counts.indices, minlength=N_BUCKETS)
        beyond = np.geomspace(EXACT_LEVELS, max(n_rows, 2 * LEVELS), LEVELS - EXACT_LEVELS)
        levels = np.concatenate((np.arange(EXACT_LEVELS), beyond.round())).astype(np.int64)
        level = np.minimum(np.searchsorted(levels, frequency), LEVELS - 1).astype(np.uint8)
        return cls(level, idf_of(levels, n_rows).astype(np.float32))

    @property
    def by_bucket(self) -> NDArray[np.float32]:
        """(2**18,) the inverse document frequency of each bucket."""
        return self.idf[self.level]


@dataclass(frozen=True)
class RungFit:
    """Fitted heads over one scale.

    Attributes:
        frequencies, scaler: of the rows that taught any of them; the scaler's are the table's.
        heads: one a rung between, the cheapest first; weights as sixteen bits hold them.
        calibrators: Platt's line of each.
    """

    frequencies: Frequencies
    scaler: Scaler
    heads: tuple[Head, ...]
    calibrators: tuple[LogitLine, ...]

    def p(self, table: FeatureTable) -> Floats:
        """Return (n, rungs) the calibrated p of rows."""
        odds = [
            calibrator(head.log_odds(self.scaler, table))
            for head, calibrator in zip(self.heads, self.calibrators, strict=True)
        ]
        return np.asarray(expit(np.column_stack(odds)), dtype=np.float64)


@dataclass(frozen=True)
class RungAnswers:
    """What the labelled rows of one rung were told by fits without their group.

    Attributes:
        rows: (m,) numbers of the rows that have its label.
        raw: (m,) log-odds.
        fold: (m,) number of each row's fold.
        c: inverse regularisation of the head that is kept.
    """

    rows: Ints
    raw: Floats
    fold: Ints
    c: float


def answer_rung(
    table: FeatureTable, match: Ints, group: Ints, rows: Ints, weight: Floats, settings: FitSettings
) -> RungAnswers:
    """Return what a rung's rows are told out of fold, each fold by the C that is best on the others.

    Args:
        table: features of n rows.
        match: (n,) labels of the rung, read at `rows` alone.
        group: (n,) which rows stay together.
        rows: (m,) numbers of the rows with a label, in at least `N_FOLDS` groups.
        weight: (n,) of the fit.
        settings: scales; form and C are chosen here.
    """
    ours, wanted, groups = table.take(rows), match[rows], group[rows]
    candidates = [replace(settings, form="binary", c=c) for c in C_GRID]
    raw = np.empty((len(candidates), rows.size))
    fold = np.empty(rows.size, np.int64)
    for number, (train, held_out) in enumerate(GroupKFold(N_FOLDS).split(wanted, groups=groups)):
        fold[held_out] = number
        seen, asked = ours.take(train), ours.take(held_out)
        scaler, _ = _scaled(seen, settings)
        heads = _heads(seen, wanted[train], weight[rows][train], scaler, candidates)
        raw[:, held_out] = [head.log_odds(scaler, asked) for head in heads]
    losses = {one: row_losses(raw[place], wanted) for place, one in enumerate(candidates)}

    def best(some: NDArray[np.bool_]) -> int:
        chosen = {one: loss[some] for one, loss in losses.items()}
        return candidates.index(choose(chosen, groups[some], is_small=rows.size <= FEW_ROWS))

    own = np.array([best(fold != number) for number in range(N_FOLDS)])[fold]
    kept = candidates[best(np.ones(rows.size, dtype=bool))]
    return RungAnswers(rows, raw[own, np.arange(rows.size)], fold, kept.c)


def fit_rungs(
    table: FeatureTable, match: Ints, weight: Floats, answers: Sequence[RungAnswers], settings: FitSettings
) -> RungFit:
    """Fit the heads on all rows that have their label, and calibrate them on what these were told out of fold.

    Args:
        table: features of n rows.
        match: (n, rungs) labels.
        weight: (n,) of the fits.
        answers: of each rung between.
        settings: scales.
    """
    taught = np.unique(np.concatenate([one.rows for one in answers]))
    scaler, frequencies = _scaled(table.take(taught), settings)
    heads = []
    for rung, one in enumerate(answers):
        chosen = [replace(settings, form="binary", c=one.c)]
        heads += _heads(table.take(one.rows), match[one.rows, rung], weight[one.rows], scaler, chosen)
    lines = tuple(fit_platt(one.raw, match[one.rows, rung]) for rung, one in enumerate(answers))
    return RungFit(frequencies, scaler, tuple(heads), lines)


def _scaled(table: FeatureTable, settings: FitSettings) -> tuple[Scaler, Frequencies]:
    frequencies = Frequencies.of(table)
    return replace(fit_scaler(table, settings), idf=frequencies.by_bucket), frequencies


def _heads(
    table: FeatureTable, match: Ints, weight: Floats, scaler: Scaler, candidates: Sequence[FitSettings]
) -> list[Head]:
    """Fit candidates that differ in C, each from where the last one ended."""
    target, blocks = Target.of(match, "binary"), Blocks.of(table, scaler)
    design, heads, start = blocks.design(0.0), [], None
    for one in candidates:
        start = fit_logistic(design, target.share, one.c, weight=weight, start=start)
        head = blocks.head(start, target.matches, with_dense=False)
        heads.append(replace(head, lexical=head.lexical.astype(np.float16).astype(np.float32)))
    return heads
