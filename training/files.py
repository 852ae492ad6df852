"""Files of results: tables under their final names only when complete, and one retraining at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from turnout.serving.files import replacing
from turnout.training.errors import RetrainUnderWay


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet (zstd), under the final name only when complete."""
    with replacing(path) as draft:
        pq.write_table(table, draft, compression="zstd")


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold `path` for one retraining, with a file `.<name>.retrain` beside it; the kernel lets go of it at a crash.

    Raises:
        RetrainUnderWay: another one holds it.
    """
    beside = path.parent / f".{path.name}.retrain"
    beside.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RetrainUnderWay(
                f"{path}: another turnout retrain is at work on it; try again when it has ended"
            ) from None
        yield
    finally:
        os.close(descriptor)
