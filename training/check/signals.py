"""Signals from a table of their own: what came with answers that the logs hold without it.

Comes in: a Parquet table with the columns source, prompt_id, model, signal (`mean_logprob` or `self_check`) and value,
and where they are known latency_ms. Goes out: the dataset with the signals of the weak model's answers and the
latencies of both models', joined on source and prompt_id.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.model_names import is_model
from turnout.training.dataset.dataset import Dataset
from turnout.training.errors import DataRefused
from turnout.training.logs.records import LabelledRecord, Record, Response
from turnout.training.progress import Reporter

COLUMNS = ("source", "prompt_id", "model", "signal", "value")
KINDS = ("mean_logprob", "self_check")
LATENCY = "latency_ms"

_Found = dict[tuple[str, str], dict[str, float]]
"""Of one model: source and prompt_id to what came with its answer."""


def with_signals(data: Dataset, path: Path, pair: Pair, reporter: Reporter) -> Dataset:
    """Return the dataset with the table's signals; a row's own ones stay where the table has none for it.

    Raises:
        DataRefused: the table can't be read, lacks a column, or fits no row.
    """
    weak, strong = _read(path, pair)
    n = sum(row.record.weak is not None and bool(weak.get(_key(row.record), {}).keys() & KINDS) for row in data.rows)
    if not n:
        raise DataRefused(
            f"{path}: none of its rows of {pair.weak} has the source and prompt_id of a row of the logs; name the "
            "columns of the logs with --column source=... and --column id=..."
        )
    reporter.say(f"Signals from {path}: {n} of {len(data.rows)} rows")
    return replace(data, rows=[_joined(row, weak, strong) for row in data.rows])


def _read(path: Path, pair: Pair) -> tuple[_Found, _Found]:
    """Return what came with the weak model's answers, and with the strong one's."""
    try:
        has_latency = LATENCY in pq.read_schema(path).names
        table = pq.read_table(path, columns=[*COLUMNS, *([LATENCY] if has_latency else [])])
    except (OSError, pa.ArrowException) as error:
        raise DataRefused(f"{path}: not a table with the columns {', '.join(COLUMNS)}: {error}") from error
    columns = [table[name].to_pylist() for name in COLUMNS]
    columns.append(table[LATENCY].to_pylist() if has_latency else [None] * len(table))
    weak: _Found = {}
    strong: _Found = {}
    for source, prompt_id, model, signal, value, latency_ms in zip(*columns, strict=True):
        found = weak if is_model(str(model), pair.weak) else strong if is_model(str(model), pair.strong) else None
        if found is None:
            continue
        of_answer = found.setdefault((str(source), str(prompt_id)), {})
        if signal in KINDS and value is not None and not math.isnan(value):
            of_answer[signal] = float(value)
        if latency_ms is not None and 0.0 < latency_ms < math.inf:
            of_answer[LATENCY] = float(latency_ms)
    return weak, strong


def _key(record: Record) -> tuple[str, str]:
    return record.source or "", record.id


def _joined(row: LabelledRecord, weak: _Found, strong: _Found) -> LabelledRecord:
    record = row.record
    of_weak, of_strong = weak.get(_key(record), {}), strong.get(_key(record), {})
    if not of_weak and not of_strong:
        return row
    both = replace(record, weak=_with(record.weak, of_weak), strong=_with(record.strong, of_strong))
    return replace(row, record=both)


def _with(answer: Response | None, found: Mapping[str, float]) -> Response | None:
    if answer is None:
        return None
    return replace(
        answer,
        mean_logprob=found.get("mean_logprob", answer.mean_logprob),
        self_check=found.get("self_check", answer.self_check),
        latency_ms=found.get(LATENCY, answer.latency_ms),
    )
