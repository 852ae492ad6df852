"""Pool: the rows of a retraining, old and new, in one dataset.

Comes in: logs and the store of kept rows. Goes out: `Pool`: what is within the window, grouped together, so that a new
row that repeats an old one is known for it. Rows that stand in the store already are not new, so the same logs may be
given again and again. Logs without text make a pool of features (`turnout.training.dataset.digests`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.arrays import Floats
from turnout.training.dataset.dataset import Dataset, group_rows, load_dataset, usable_rows
from turnout.training.dataset.digests.making import Making, of_making
from turnout.training.dataset.digests.rows import digest_dataset, label_table, numbers_of, refuse_labels
from turnout.training.dataset.digests.table import are_digests, read_teaching
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.logs.reading import Reading
from turnout.training.logs.stored_files import LogFile
from turnout.training.progress import Reporter
from turnout.training.retrain.kept import KeptOrigin, KeptRow, read_kept
from turnout.training.retrain.kept_digests import KEPT, KEPT_SCHEMA, read_kept_digests

DAY_S = 86_400.0


@dataclass(frozen=True)
class Aging:
    """What age does to a row; it counts from the newest one, from now where a clock that ran ahead dated that later.

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
        harness_rules: version by which the rows are read, and the challenger will be.
        features: of rows without text; None where they have it.
        stored: rows without text as they are kept.
    """

    rows: list[KeptRow]
    is_old: NDArray[np.bool_]
    data: Dataset
    weight: Floats
    harness_rules: int = LATEST_HARNESS_RULES
    features: FeatureTable | None = None
    stored: pa.Table | None = None

    @property
    def n_new(self) -> int:
        """Rows that did not stand in the store."""
        return int((~self.is_old).sum())


def pool_rows(
    paths: Sequence[LogFile],
    kept: Path | None,
    origin: KeptOrigin,
    reading: Reading,
    aging: Aging,
    reporter: Reporter,
    making: Making | None = None,
) -> Pool:
    """Read and label the logs, and put the kept rows before them.

    Args:
        paths: the logs.
        kept: the store; None for none.
        origin: whose answers are compared.
        reading: how the logs are to be read.
        aging: window and decay.
        reporter: what is told of the progress.
        making: how rows without text must have been made; None refuses them.

    Raises:
        DataRefused: as `load_dataset` does, and for rows without text as `load_digests` does.
    """
    if making is not None and are_digests(paths):
        return _pool_digests(paths, kept, origin, reading, aging, making, reporter)
    old = [] if kept is None else read_kept(kept, origin)
    labelled = load_dataset(paths, origin.pair, reading, origin.margin, reporter).dataset.rows
    known, now_s = {one.identity for one in old}, time.time()
    rows = [*old, *(one for row in labelled if (one := KeptRow(row, now_s)).identity not in known)]
    age = age_days(rows)
    within = within_window(age, aging)
    rows = [rows[row] for row in within]
    data = group_rows([one.row for one in rows], reporter, LATEST_HARNESS_RULES)
    is_old = np.array([one.identity in known for one in rows], dtype=bool)
    return Pool(rows, is_old, _decayed(data, age[within], aging), data.weight)


def _pool_digests(
    paths: Sequence[LogFile],
    kept: Path | None,
    origin: KeptOrigin,
    reading: Reading,
    aging: Aging,
    making: Making,
    reporter: Reporter,
) -> Pool:
    refuse_labels(paths, reading)
    old = KEPT_SCHEMA.empty_table() if kept is None else read_kept_digests(kept, origin)
    with reporter.stage("Reading digests"):
        new = read_teaching(paths)
        new = new.append_column(KEPT_SCHEMA.field(KEPT), pa.array([time.time()] * new.num_rows, pa.float64()))
        known = set(_identities(old))
        new = new.filter(pa.array([one not in known for one in _identities(new)], pa.bool_()))
        table, salt = of_making(pa.concat_tables([old, new]), making, str(paths[0]), reporter)
        _, labelled = label_table(table, origin.pair, origin.margin, str(paths[0]))
    usable = usable_rows(labelled, reading, reporter)
    numbers = numbers_of(usable)
    kept_s = table[KEPT].to_numpy()[numbers]
    rows = [KeptRow(row, moment_s) for row, moment_s in zip(usable, kept_s.tolist(), strict=True)]
    age = age_days(rows)
    within = within_window(age, aging)
    rows, table = [rows[row] for row in within], table.take(numbers[within])
    data, features = digest_dataset([one.row for one in rows], table, salt, reporter)
    is_old = np.array([one in known for one in _identities(table)], dtype=bool)
    return Pool(rows, is_old, _decayed(data, age[within], aging), data.weight, making.harness_rules, features, table)


def _identities(table: pa.Table) -> list[tuple[object, ...]]:
    """Return what is the same when the same row of a log is read again."""
    return list(zip(*(table[name].to_pylist() for name in ("id", "created", "text_key")), strict=True))


class Dated(Protocol):
    """What says when it was made, in seconds (UTC)."""

    @property
    def moment_s(self) -> float:
        """When."""


def age_days(rows: Sequence[Dated]) -> Floats:
    """Return (n,) ages from the newest row, or from now where a clock that ran ahead dated that later."""
    moment_s = np.array([one.moment_s for one in rows])
    return np.asarray(np.maximum(0.0, min(moment_s.max(), time.time()) - moment_s) / DAY_S)


def within_window(age_days: Floats, aging: Aging) -> NDArray[np.int64]:
    """Return the numbers of the rows that are not too old."""
    return np.flatnonzero(age_days <= (np.inf if aging.window_days is None else aging.window_days))


def fading(age_days: Floats, aging: Aging) -> Floats:
    """Return (n,) what age leaves of a row's weight."""
    if aging.half_life_days is None:
        return np.ones(age_days.size)
    return np.asarray(np.exp2(-age_days / aging.half_life_days), dtype=np.float64)


def _decayed(data: Dataset, age_days: Floats, aging: Aging) -> Dataset:
    return data if aging.half_life_days is None else replace(data, weight=data.weight * fading(age_days, aging))
