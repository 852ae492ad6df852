"""Rows: what became of each row of the logs, as a table with its place, its label and its features.

Comes in: records with their decisions, and rows in quarantine. Goes out: tables of `row_schema`, sorted by place; from
their columns `turnout.training.pipeline.output` writes the labels, the quarantine and the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from turnout.training.labels import Decision
from turnout.training.labels.ledger import LABEL_SCHEMA, labels_table
from turnout.training.logs.parts import Place
from turnout.training.logs.quarantine import Rejected
from turnout.training.logs.records import Record
from turnout.training.pipeline.duplicates import DIGEST

PLACE = ["file_number", "line", "index"]
OWN_FIELDS = [
    pa.field("file_number", pa.int64()),
    pa.field("task", pa.string()),
    pa.field("quarantined", pa.string()),
    pa.field("similarity", pa.float64()),
    pa.field("is_question", pa.bool_()),
    DIGEST,
]
"""Columns that are not written: which file, the row's task, why it is in quarantine, the cosine of its answers, whether
judges may be asked about it, and what it says."""


def row_schema(beside: Sequence[pa.Field]) -> pa.Schema:
    """Return the schema of finished rows, which have these columns beside their labels."""
    own = {field.name for field in OWN_FIELDS}
    return pa.schema([*LABEL_SCHEMA, *(field for field in beside if field.name not in own), *OWN_FIELDS])


def record_rows(
    places: Sequence[Place],
    records: Sequence[Record],
    decisions: Sequence[Decision],
    similarity: Sequence[float | None],
    asked: Sequence[bool],
    digests: Sequence[bytes | None],
    beside: dict[str, pa.Array],
) -> pa.Table:
    """Return the rows of records; all of the same length."""
    table = labels_table(records, decisions)
    own = {field.name for field in OWN_FIELDS}
    for name, column in beside.items():
        if name not in own:
            table = table.append_column(name, column)
    table = table.append_column("file_number", pa.array([place.file for place in places], pa.int64()))
    table = table.append_column("task", pa.array([record.task for record in records], pa.string()))
    table = table.append_column("quarantined", pa.nulls(len(records), pa.string()))
    table = table.append_column("similarity", pa.array(similarity, pa.float64()))
    table = table.append_column("is_question", pa.array(asked, pa.bool_()))
    return table.append_column(DIGEST, pa.array(digests, DIGEST.type))


def rejected_rows(places: Sequence[Place], rejected: Sequence[Rejected], schema: pa.Schema) -> pa.Table:
    """Return the rows of what is in quarantine: place and reason, else nulls."""
    known = {
        "file": [row.file for row in rejected],
        "line": [row.line for row in rejected],
        "index": [row.index for row in rejected],
        "file_number": [place.file for place in places],
        "quarantined": [str(row.reason) for row in rejected],
    }
    n = len(rejected)
    columns = [pa.array(known[f.name], f.type) if f.name in known else pa.nulls(n, f.type) for f in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def spread(columns: dict[str, pa.Array], rows: Sequence[int], n_rows: int) -> dict[str, pa.Array]:
    """Return columns of `n_rows` rows, given for `rows` of them in rising order; the others are null."""
    where = np.full(n_rows, -1, dtype=np.int64)
    where[list(rows)] = np.arange(len(rows))
    taken = pa.array(where, mask=where < 0)
    return {name: column.take(taken) for name, column in columns.items()}
