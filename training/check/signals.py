"""Signals from a table of their own: what came with answers that the logs hold without it.

Comes in: a Parquet table with the columns source, prompt_id, model, signal (`mean_logprob` or `self_check`) and value.
Goes out: the dataset with the signals of the weak model's answers, joined on source and prompt_id.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from turnout.serving.bundles.bundle import Pair
from turnout.serving.decision.model_names import is_model
from turnout.training.dataset.dataset import Dataset
from turnout.training.errors import DataRefused
from turnout.training.logs.records import LabelledRecord
from turnout.training.progress import Reporter

COLUMNS = ("source", "prompt_id", "model", "signal", "value")
KINDS = ("mean_logprob", "self_check")


def with_signals(data: Dataset, path: Path, pair: Pair, reporter: Reporter) -> Dataset:
    """Return the dataset with the table's signals; a row's own ones stay where the table has none for it.

    Raises:
        DataRefused: the table can't be read, lacks a column, or fits no row.
    """
    found = _read(path, pair)
    rows = [_joined(row, found.get((row.record.source or "", row.record.id), {})) for row in data.rows]
    n = sum(after is not before for after, before in zip(rows, data.rows, strict=True))
    if not n:
        raise DataRefused(
            f"{path}: none of its rows of {pair.weak} has the source and prompt_id of a row of the logs; name the "
            "columns of the logs with --column source=... and --column id=..."
        )
    reporter.say(f"Signals from {path}: {n} of {len(rows)} rows")
    return replace(data, rows=rows)


def _read(path: Path, pair: Pair) -> dict[tuple[str, str], dict[str, float]]:
    try:
        table = pq.read_table(path, columns=list(COLUMNS))
    except (OSError, pa.ArrowException) as error:
        raise DataRefused(f"{path}: not a table with the columns {', '.join(COLUMNS)}: {error}") from error
    found: dict[tuple[str, str], dict[str, float]] = {}
    for source, prompt_id, model, signal, value in zip(*(table[name].to_pylist() for name in COLUMNS), strict=True):
        if signal in KINDS and value is not None and not math.isnan(value) and is_model(str(model), pair.weak):
            found.setdefault((str(source), str(prompt_id)), {})[signal] = float(value)
    return found


def _joined(row: LabelledRecord, found: dict[str, float]) -> LabelledRecord:
    weak = row.record.weak
    if weak is None or not found:
        return row
    answer = replace(
        weak,
        mean_logprob=found.get("mean_logprob", weak.mean_logprob),
        self_check=found.get("self_check", weak.self_check),
    )
    return replace(row, record=replace(row.record, weak=answer))
