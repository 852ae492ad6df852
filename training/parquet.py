"""Parquet: how tables of results are written, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from turnout.training.replacing import replacing


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet (zstd), under the final name only when complete."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
