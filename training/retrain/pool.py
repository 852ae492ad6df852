"""Pool: the rows of a retraining, old and new, in one dataset.

Comes in: logs and the store of kept rows. Goes out: `Pool`: what is within the window, grouped together, so that a new
row that repeats an old one is known for it. Rows that stand in the store already are not new, so the same logs may be
given again and again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.harness import LATEST_HARNESS_RULES
from training.dataset import Dataset, group_rows, load_dataset
from training.metrics import Floats
from training.progress import Reporter
from training.reading import Reading
from training.retrain.kept import KeptRow, Origin, read_kept

DAY_S = 86_400.0


@dataclass(frozen=True)
class Aging:
    """What age does to a row; it counts from the newest one.

    Attributes:
        window_days: older rows are neither learned from nor kept; None for all.
        half_life_days: age at which a row counts half in the fit; None for all alike.
    """

    window_days: float | None = None
    half_life_days: float | None = None


@dataclass(frozen=True)
class Pool:
    """Old and new rows; arrays are (n,), in the order of `rows`.

    Attributes:
        rows: with the moment that each was first kept.
        is_old: whether it stood in the store.
        data: the same rows in groups; its weights fall with age.
        weight: 1 / pair propensity alone.
    """

    rows: list[KeptRow]
    is_old: NDArray[np.bool_]
    data: Dataset
    weight: Floats

    @property
    def n_new(self) -> int:
        """Rows that did not stand in the store."""
        return int((~self.is_old).sum())


def pool_rows(
    paths: Sequence[Path], kept: Path | None, origin: Origin, reading: Reading, aging: Aging, reporter: Reporter
) -> Pool:
    """Read and label the logs, and put the kept rows before them; raises `DataRefused` as `load_dataset` does."""
    old = [] if kept is None else read_kept(kept, origin)
    labelled = load_dataset(paths, origin.pair, reading, origin.margin, reporter).dataset.rows
    known, now_s = {one.identity for one in old}, time.time()
    rows = [*old, *(one for row in labelled if (one := KeptRow(row, now_s)).identity not in known)]
    age_days = (max(one.moment_s for one in rows) - np.array([one.moment_s for one in rows])) / DAY_S
    within = age_days <= (np.inf if aging.window_days is None else aging.window_days)
    rows = [one for one, is_within in zip(rows, within, strict=True) if is_within]
    data = group_rows([one.row for one in rows], reporter, LATEST_HARNESS_RULES)
    weight = data.weight
    if aging.half_life_days is not None:
        data = replace(data, weight=weight * np.exp2(-age_days[within] / aging.half_life_days))
    return Pool(rows, np.array([one.identity in known for one in rows], dtype=bool), data, weight)
