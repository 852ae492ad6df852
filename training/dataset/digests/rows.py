"""Rows: a dataset of logged decisions that hold no text, with their features and groups.

Comes in: rows as `training.dataset.digests.table` reads them. Goes out: `Loaded`, as of files of features: records
without prompt, answers or references. Labels come from scores and preferences, which is all that such rows have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.serving.bundles.manifest import Pair
from turnout.serving.router.ties import key_digest, session_key
from turnout.training.dataset.dataset import Dataset, Loaded, dataset_of, usable_rows
from turnout.training.dataset.digests.making import Making, of_making
from turnout.training.dataset.digests.near import near_rows
from turnout.training.dataset.digests.table import read_teaching
from turnout.training.dataset.features.schema import FEATURE_COLUMNS
from turnout.training.dataset.features.table import feature_table
from turnout.training.dataset.measures import PromptMeasures
from turnout.training.dataset.splits import Groups, tied
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.errors import DataRefused
from turnout.training.labels import Labelled, label_records
from turnout.training.logs.read import ReadResult
from turnout.training.logs.reading import Reading
from turnout.training.logs.records import LabelledRecord, Record
from turnout.training.logs.rows import decode_row
from turnout.training.logs.stored_files import LogFile
from turnout.training.logs.tables import RawRow
from turnout.training.progress import Reporter

NOT_KEPT = "(not kept)"
"""Stands for the prompt while a row is decoded and labelled, which rows without one are not; no record keeps it."""

_ROW = (
    "id", "created", "tenant", "task", "session_id", "prompt_turns", "prompt_images", "prompt_tools",
    "prompt_wants_json", "route_propensity", "pair_propensity", "responses", "preference",
)  # fmt: skip


def load_digests(
    paths: Sequence[LogFile], pair: Pair, reading: Reading, margin: float, making: Making, reporter: Reporter
) -> Loaded:
    """Return rows to learn from, out of decision logs without text.

    Raises:
        DataRefused: as `read_teaching` and `of_making`; no row has both outcomes; or stored labels are named.
    """
    refuse_labels(paths, reading)
    with reporter.stage("Reading digests"):
        table, salt = of_making(read_teaching(paths), making, str(paths[0]), reporter)
        records, labelled = label_table(table, pair, margin, str(paths[0]))
    usable = usable_rows(labelled, reading, reporter)
    numbers = numbers_of(usable)
    data, features = digest_dataset(usable, table.take(numbers), salt, reporter)
    return Loaded(ReadResult(list(records)), labelled, data, features)


def refuse_labels(paths: Sequence[LogFile], reading: Reading) -> None:
    """Refuse labels from a file, which name rows of logs with text; raises `DataRefused`."""
    if reading.labels is not None:
        raise DataRefused(f"{reading.labels}: --labels is for logs with prompts; {paths[0]} holds scores of its own")


def label_table(table: pa.Table, pair: Pair, margin: float, where: str) -> tuple[list[Record], Labelled]:
    """Return the rows of a table as records, numbered by `line` from 1, and what their scores say of them.

    Raises:
        DataRefused: a row can't be decoded; the message names it.
    """
    records = [_record(row, number, pair, where) for number, row in enumerate(table.select(_ROW).to_pylist(), start=1)]
    decisions = label_records(records, margin=margin).decisions
    bare = [replace(one, prompt=msgspec.structs.replace(one.prompt, text=""), user_text="") for one in records]
    return bare, Labelled.of(bare, decisions)


def numbers_of(rows: Sequence[LabelledRecord]) -> NDArray[np.int64]:
    """Return where the rows stand in the table that `label_table` read."""
    return np.array([one.record.line - 1 for one in rows], dtype=np.int64)


def digest_dataset(
    rows: list[LabelledRecord], table: pa.Table, salt: str, reporter: Reporter
) -> tuple[Dataset, FeatureTable]:
    """Return labelled rows, grouped, and their features.

    Args:
        rows: labelled.
        table: the same rows in the same order.
        salt: of their digests.
        reporter: what is told of the progress.
    """
    features = feature_table(table.select(FEATURE_COLUMNS))
    with reporter.stage("Grouping near-duplicates"):
        keys = list(map(_keys, table["text_key"].to_pylist(), table["session_id"].to_pylist(), [salt] * len(rows)))
        found = tied(keys, near_rows(features.counts))
        groups = Groups(found.group, keys, found.n_near_duplicates, found.split_sizes, salt)
    measures = PromptMeasures(
        table["prompt_characters"].to_numpy(), table["estimated_tokens"].to_numpy(), table["prompt_script"].to_pylist()
    )
    return dataset_of(rows, groups, reporter, measures), features


def _keys(text: bytes, session_id: str | None, salt: str) -> tuple[str, ...]:
    """Return the digests, in hex, of the keys that `training.dataset.splits.group_keys` gives a row with text."""
    if not session_id:
        return (text.hex(),)
    return text.hex(), key_digest(session_key(session_id), salt).hex()


def _record(row: dict[str, Any], number: int, pair: Pair, where: str) -> Record:
    found = decode_row(RawRow(number, {"prompt": NOT_KEPT} | row), where, pair)
    if not isinstance(found, Record):
        raise DataRefused(f"{where}: row {number} of those with a vector: {found.reason}; compact its log again")
    return found
