"""Selection: form, C and the scale of the parts, by grouped cross-validation on the fit and calibration parts.

Comes in: features and outcomes of these parts. Goes out: `FitSettings`. The measure is the log loss
of `match`, out of fold, of the full head before calibration.

What can't be told apart goes to the simpler one: the binary form, and the smaller C, win within one standard error of
the difference over groups. On 1,052 rows that raises APGR by 0.014 to 0.020 over always four outcomes and the lowest
loss; on 20,764 rows four outcomes win by seven standard errors, as they should (docs/decisions/training/0010).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.fit.fit import FitSettings, fit_head, fit_scaler
from turnout.training.fit.losses import paired_excess, row_losses
from turnout.training.progress import Advance, Reporter

N_FOLDS = 3
C_GRID = (0.5, 1.0, 2.0)
DENSE_GRID = (0.25, 0.5, 1.0)
WIDE_C_GRID = (0.25, 0.5, 1.0, 2.0, 4.0)
WIDE_DENSE_GRID = (0.125, 0.25, 0.5, 0.7, 1.0, 1.5)
WIDE_STRUCTURAL_GRID = (0.05, 0.1, 0.3)

Losses = dict[FitSettings, NDArray[np.float64]]
"""Candidate -> (n,) its loss of each row, out of fold."""


def select_settings(
    table: FeatureTable,
    targets: dict[str, NDArray[np.int64]],
    match: NDArray[np.int64],
    group: NDArray[np.int64],
    *,
    wide: bool,
    reporter: Reporter,
) -> FitSettings:
    """Return the settings with the lowest log loss out of fold, or simpler ones that can't be told from them.

    Args:
        table: features of the rows that teach.
        targets: form -> target of the fit.
        match: (n,) 0 or 1.
        group: (n,) which rows stay together.
        wide: search the whole grid; otherwise first the form, then C, then the scale of the dense part.
        reporter: shows a bar.
    """
    grid = itertools.product(targets, WIDE_C_GRID, WIDE_DENSE_GRID, WIDE_STRUCTURAL_GRID)
    whole = [FitSettings(c, structural, dense, form) for form, c, dense, structural in grid]
    n_candidates = len(whole) if wide else len(targets) + len(C_GRID) + len(DENSE_GRID) - 2  # each step shares one
    with (
        reporter.stage("Choosing form, C and scales by grouped cross-validation", N_FOLDS * n_candidates) as advance,
        Parallel(n_jobs=-1, return_as="generator") as parallel,
    ):
        search = _Search(table, targets, match, group, parallel, advance)
        if wide:
            return min(search.best(whole), key=_complexity)
        form = min(search.best([FitSettings(form=form) for form in targets]), key=_complexity)
        with_c = min(search.best([replace(form, c=c) for c in C_GRID]), key=_complexity)
        return search.best([replace(with_c, dense_scale=scale) for scale in DENSE_GRID])[0]


@dataclass
class _Search:
    """Cross-validation of one candidate after the other, each of them once."""

    table: FeatureTable
    targets: dict[str, NDArray[np.int64]]
    match: NDArray[np.int64]
    group: NDArray[np.int64]
    parallel: Parallel
    advance: Advance
    losses: Losses = field(default_factory=dict)

    def best(self, candidates: Sequence[FitSettings]) -> list[FitSettings]:
        """Return the candidate with the lowest loss, then those within one standard error of it."""
        folds = list(GroupKFold(N_FOLDS).split(self.match, groups=self.group))
        jobs = [(one, fold) for one in candidates if one not in self.losses for fold in folds]
        fits = (delayed(_held_out)(self.table, self.targets[one.form], fold, one) for one, fold in jobs)
        for (one, (_, held_out)), log_odds in zip(jobs, self.parallel(fits), strict=True):
            losses = self.losses.setdefault(one, np.empty(self.match.size))
            losses[held_out] = row_losses(log_odds, self.match[held_out])
            self.advance(1)
        return within_one_error({one: self.losses[one] for one in candidates}, self.group)


def _complexity(settings: FitSettings) -> tuple[bool, float]:
    return settings.form != "binary", settings.c


def within_one_error(losses: Losses, group: NDArray[np.int64]) -> list[FitSettings]:
    """Return the candidate with the lowest mean loss, then those no worse than it by more than one standard error."""
    of_row = np.unique(group, return_inverse=True)[1]
    ranked = sorted(losses, key=lambda one: float(losses[one].mean()))
    excess = {one: paired_excess(losses[one], losses[ranked[0]], of_row) for one in ranked}
    return [one for one in ranked if excess[one][0] <= excess[one][1]]


def _held_out(
    table: FeatureTable,
    target: NDArray[np.int64],
    fold: tuple[NDArray[np.int64], NDArray[np.int64]],
    settings: FitSettings,
) -> NDArray[np.float64]:
    """Return the log-odds that a fit on one side of a fold gives the other."""
    train, held_out = fold
    seen = table.take(train)
    scaler = fit_scaler(seen, settings)
    return fit_head(scaler, seen, target[train], settings, with_dense=True).log_odds(scaler, table.take(held_out))
