"""What the second look says of rows whose group its fit has not seen, and the maps that calibrate it.

Comes in: `CheckRows` with labels and groups. Goes out: `OutOfFoldAnswers`, and from it the calibrators.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import GroupKFold

from turnout.training.arrays import Floats, Ints
from turnout.training.check.fit import Checker, calibrated, fit_checker
from turnout.training.check.rows import CheckRows
from turnout.training.fit.calibrators import Beta, fit_beta, fit_platt

MIN_CALIBRATION_ROWS = 300
N_FOLDS = 5


@dataclass(frozen=True)
class OutOfFoldAnswers:
    """What n rows were told by fits without their group.

    Attributes:
        raw: (n,) uncalibrated log-odds.
        parts: (n, 3) what prompt, answer and signals add to them.
        fold: (n,) number of the fold that was held out.
    """

    raw: Floats
    parts: Floats
    fold: Ints

    def crossfitted(self, match: Ints, cell: Ints, before: Checker | None = None) -> Floats:
        """Return (n,) log-odds by the calibrators of the other folds: what calibration figures are of.

        Args:
            match: (n,) labels.
            cell: (n,) which signals counted.
            before: the checker whose calibrators are fitted anew; None where they are fitted from nothing.
        """
        odds = np.empty(self.raw.size)
        for one in np.unique(self.fold):
            others, held_out = self.fold != one, self.fold == one
            known = self.raw[others], match[others], cell[others]
            maps = fit_maps(*known) if before is None else new_maps(before, *known)
            odds[held_out] = calibrated(self.raw[held_out], cell[held_out], maps)
        return odds


def out_of_fold(rows: CheckRows, match: Ints, group: Ints, weight: Floats | None = None) -> OutOfFoldAnswers:
    """Return what each row gets from a fit without its group."""
    raw, parts, fold = np.empty(match.size), np.empty((match.size, 3)), np.empty(match.size, dtype=np.int64)
    for number, (train, held_out) in enumerate(GroupKFold(N_FOLDS).split(match, groups=group)):
        fitted = fit_checker(rows.take(train), match[train], None if weight is None else weight[train])
        parts[held_out] = fitted.parts(rows.take(held_out))
        raw[held_out] = parts[held_out].sum(axis=1) + fitted.intercept
        fold[held_out] = number
    return OutOfFoldAnswers(raw, parts, fold)


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


def told_before(checker: Checker, rows: CheckRows, group: Ints) -> OutOfFoldAnswers:
    """Return what a checker that has seen none of the rows says of them; folds are only for the calibrators."""
    parts, fold = checker.parts(rows), np.empty(group.size, dtype=np.int64)
    for number, (_, held_out) in enumerate(GroupKFold(N_FOLDS).split(group, groups=group)):
        fold[held_out] = number
    return OutOfFoldAnswers(parts.sum(axis=1) + checker.intercept, parts, fold)


def new_maps(checker: Checker, raw: Floats, match: Ints, cell: Ints) -> tuple[Beta, ...]:
    """Return the calibration of each cell of signals on new rows.

    A cell of `MIN_CALIBRATION_ROWS` is fitted anew. Any other keeps the map that it had, under one line for all rows: a
    line over a beta map is a beta map.
    """
    line = fit_platt(calibrated(raw, cell, checker.calibrators), match)
    maps = []
    for number, old in enumerate(checker.calibrators):
        chosen = cell == number
        if chosen.sum() >= MIN_CALIBRATION_ROWS and np.unique(match[chosen]).size == 2:
            maps.append(fit_beta(raw[chosen], match[chosen]))
        else:
            slopes = line.slope * old.match_slope, line.slope * old.miss_slope
            maps.append(Beta(*slopes, line.slope * old.intercept + line.intercept))
    return tuple(maps)
