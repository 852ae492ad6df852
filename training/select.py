"""Selection: C and the scale of the parts, by grouped cross-validation on the fit and calibration parts.

Comes in: features and outcomes of these parts. Goes out: `FitSettings`. The measure is the log loss
of `match`, out of fold, of the full head before calibration.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold

from training.embeddings import FeatureTable
from training.fit import FitSettings, fit_head, fit_scaler
from training.progress import Reporter

N_FOLDS = 3
C_GRID = (0.5, 1.0, 2.0)
DENSE_GRID = (0.25, 0.5, 1.0)
WIDE_C_GRID = (0.25, 0.5, 1.0, 2.0, 4.0)
WIDE_DENSE_GRID = (0.125, 0.25, 0.5, 0.7, 1.0, 1.5)
WIDE_STRUCTURAL_GRID = (0.05, 0.1, 0.3)


def select_settings(
    table: FeatureTable,
    targets: dict[str, NDArray[np.int64]],
    match: NDArray[np.int64],
    group: NDArray[np.int64],
    *,
    wide: bool,
    reporter: Reporter,
) -> FitSettings:
    """Return the settings with the lowest log loss out of fold.

    Args:
        table: features of the rows that teach.
        targets: form -> target of the fit; the first form is the one used without `wide`.
        match: (n,) 0 or 1.
        group: (n,) which rows stay together.
        wide: search the whole grid and every form; otherwise first C, then the scale of the dense part.
        reporter: shows a bar.
    """
    start = FitSettings(form=next(iter(targets)))
    if wide:
        grids = itertools.product(targets, WIDE_C_GRID, WIDE_DENSE_GRID, WIDE_STRUCTURAL_GRID)
        steps = [[FitSettings(c, structural, dense, form) for form, c, dense, structural in grids]]
        total = N_FOLDS * len(steps[0])
    else:
        steps = []
        total = N_FOLDS * (len(C_GRID) + len(DENSE_GRID) - 1)
    with (
        reporter.stage("Choosing C and scales by grouped cross-validation", total) as advance,
        Parallel(n_jobs=-1, return_as="generator") as parallel,
    ):

        def losses(candidates: Sequence[FitSettings]) -> list[float]:
            folds = list(GroupKFold(N_FOLDS).split(match, groups=group))
            jobs = (
                delayed(_fold_loss)(table, targets[settings.form], match, fold, settings)
                for settings in candidates
                for fold in folds
            )
            found = []
            for loss in parallel(jobs):
                found.append(loss)
                advance(1)
            return [float(mean) for mean in np.reshape(found, (len(candidates), N_FOLDS)).mean(axis=1)]

        if wide:
            return _best(steps[0], losses(steps[0]))
        by_c = [replace(start, c=c) for c in C_GRID]
        c_losses = losses(by_c)
        best_c = _best(by_c, c_losses)
        by_scale = [replace(best_c, dense_scale=scale) for scale in DENSE_GRID if scale != best_c.dense_scale]
        return _best([best_c, *by_scale], [min(c_losses), *losses(by_scale)])


def _best(candidates: Sequence[FitSettings], losses: Sequence[float]) -> FitSettings:
    return candidates[int(np.argmin(losses))]


def _fold_loss(
    table: FeatureTable,
    target: NDArray[np.int64],
    match: NDArray[np.int64],
    fold: tuple[NDArray[np.int64], NDArray[np.int64]],
    settings: FitSettings,
) -> float:
    train, held_out = fold
    train_table = table.take(train)
    scaler = fit_scaler(train_table, settings)
    head = fit_head(scaler, train_table, target[train], settings, with_dense=True)
    p_match = expit(head.log_odds(scaler, table.take(held_out)))
    return float(log_loss(match[held_out], p_match, labels=[0, 1]))
