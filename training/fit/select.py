"""Selection: which settings are tried, and which of them is taken.

Comes in: how many rows there are; then the loss of each row, out of fold, under each candidate. Goes out:
`FitSettings`. The measure is the log loss of `match`, out of fold, of the full head before calibration.

What can't be told apart is not chosen by luck: within one standard error of the lowest loss, the difference being
taken over groups, an order set beforehand decides. On up to `FEW_ROWS` rows it is what is best on most small logs:
four outcomes, the largest C, the dense scale nearest to 1 (docs/decisions/training/0018). On more, where all that
matters is told apart, it is the simpler one: the binary form, then the smaller C (docs/decisions/training/0010).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from turnout.training.fit.fit import FitSettings
from turnout.training.fit.losses import paired_excess

C_GRID = (0.5, 1.0, 2.0)
DENSE_GRID = (0.25, 0.5, 1.0, 2.0)
"""4 is worse than 2 on every form of 3,000 synthetic rows; 2 is best there, 1 on 20,764 reference rows."""

MANY_ROWS = 5000
"""Above it 8 candidates are tried and not 24: many rows tell the forms apart by themselves, and every fit is slow."""

FEW_ROWS = 1500
"""Up to it the bolder of what can't be told apart is taken. Logs of 230 to 1,052 rows were measured; on 3,000 synthetic
rows the simpler one is ahead by 0.005 AUROC."""

WIDE_C_GRID = (0.25, 0.5, 1.0, 2.0, 4.0)
WIDE_DENSE_GRID = (0.125, 0.25, 0.5, 0.7, 1.0, 1.5, 2.0)
WIDE_STRUCTURAL_GRID = (0.05, 0.1, 0.3)

Losses = Mapping[FitSettings, NDArray[np.float64]]
"""Candidate -> (n,) its loss of each row, out of fold."""


def candidates_of(forms: Sequence[str], n_rows: int, *, wide: bool = False) -> list[FitSettings]:
    """Return the candidates in the order in which they are fitted, each next to a similar one.

    Args:
        forms: of the fit, that the labels allow.
        n_rows: to learn from.
        wide: the whole grid, whatever the rows.
    """
    if wide:
        grid = itertools.product(WIDE_STRUCTURAL_GRID, forms, WIDE_C_GRID, WIDE_DENSE_GRID)
        return [FitSettings(c, structural, dense, form) for structural, form, c, dense in grid]
    is_small = n_rows <= MANY_ROWS
    scales = DENSE_GRID if is_small else DENSE_GRID[1:3]
    return [
        FitSettings(form=form, c=c, dense_scale=scale)
        for form in forms
        for c in (C_GRID if is_small or form != "binary" else (1.0,))
        for scale in (scales if C_GRID.index(c) % 2 == 0 else scales[::-1])
    ]


def choose(losses: Losses, group: NDArray[np.int64], *, is_small: bool) -> FitSettings:
    """Return one of the settings within one standard error of the lowest mean loss.

    Args:
        losses: of the candidates.
        group: (n,) which rows stay together.
        is_small: whether there are at most `FEW_ROWS` rows to learn from. Then four outcomes, the largest C and the
            scale nearest to 1 come first; else the binary form, the smallest C and the scale with the lowest loss.
    """
    good = within_one_error(losses, group)
    if not is_small:
        simplest = min(good, key=_complexity)
        return next(one for one in good if _complexity(one) == _complexity(simplest))
    boldest = max(good, key=_complexity)
    return min(  # the first of equals, which has the lowest loss
        (one for one in good if _complexity(one) == _complexity(boldest)),
        key=lambda one: abs(math.log2(one.dense_scale)),
    )


def _complexity(settings: FitSettings) -> tuple[bool, float]:
    return settings.form != "binary", settings.c


def within_one_error(losses: Losses, group: NDArray[np.int64]) -> list[FitSettings]:
    """Return the candidate with the lowest mean loss, then those no worse than it by more than one standard error."""
    of_row = np.unique(group, return_inverse=True)[1]
    ranked = sorted(losses, key=lambda one: float(losses[one].mean()))
    excess = {one: paired_excess(losses[one], losses[ranked[0]], of_row) for one in ranked}
    return [one for one in ranked if excess[one][0] <= excess[one][1]]
