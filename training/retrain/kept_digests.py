"""Kept digests: rows without text of earlier retrainings, so that a challenger learns from old and new.

One Parquet file (zstd), as `training.retrain.kept` is for rows with prompts: what the decision log held of each row,
and when it was kept. Labels are made anew from the scores.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow as pa

from turnout.training.compaction.store import write_table
from turnout.training.dataset.digests.table import SCHEMA
from turnout.training.retrain.kept import KeptOrigin, table_of

METADATA_KEY = b"turnout.kept_digests"
KEPT = "kept"
KEPT_SCHEMA = SCHEMA.append(pa.field(KEPT, pa.float64()))


def read_kept_digests(path: Path, origin: KeptOrigin) -> pa.Table:
    """Return the rows of a store, as `KEPT_SCHEMA`; none where there is no file yet.

    Raises:
        DataRefused: it is damaged, no store of rows without text, or kept for other models or with another margin.
    """
    what = (
        "kept rows without prompts, and the logs are digests; name the file that turnout retrain --kept wrote from "
        "such logs, or a new one"
    )
    table = table_of(path, METADATA_KEY, origin, what)
    return KEPT_SCHEMA.empty_table() if table is None else table.replace_schema_metadata(None)


def write_kept_digests(path: Path, rows: pa.Table, origin: KeptOrigin) -> None:
    """Replace the store; a reader sees the old file or the whole new one, also after a power cut."""
    write_table(path, rows.replace_schema_metadata({METADATA_KEY: msgspec.json.encode(origin)}))
