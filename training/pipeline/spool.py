"""Spool: what comes back from the workers, on disk, so that memory does not grow with the log.

Comes in: finished rows as runs that are sorted in themselves, and rows that wait, by bucket. Goes out: all finished
rows by place, and the buckets. Everything lies in one hidden folder beside the result; it goes when the run ends, and
what a killed run left goes with the next run.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa

from turnout.training.errors import DataRefused
from turnout.training.pipeline.messages import Stage
from turnout.training.pipeline.rows import PLACE

BATCH_BYTES = 512 << 10
"""How much of a run is read at a time: one batch of each bucket's run is held while rows are put in order."""


class _Batch(NamedTuple):
    """Where some rows of a run lie: its first place, its last, the run's file, and which batch of it."""

    first: tuple[int, int, int]
    last: tuple[int, int, int]
    path: Path
    number: int


@dataclass
class Spool:
    """Opened by `spool_beside`.

    Attributes:
        folder: where everything lies.
    """

    folder: Path
    _batches: list[_Batch] = field(default_factory=list)
    _n_runs: int = 0

    def add_rows(self, stream: bytes) -> pa.Table:
        """Keep finished rows, an Arrow stream sorted by place; return them."""
        table = pa.ipc.open_stream(stream).read_all().combine_chunks()
        path = self.folder / f"run-{self._n_runs}.arrow"
        self._n_runs += 1
        with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as file:
            batch_rows = max(1, BATCH_BYTES * table.num_rows // max(1, table.nbytes))
            for number, batch in enumerate(table.to_batches(max_chunksize=batch_rows)):
                file.write_batch(batch)
                self._batches.append(_Batch(_place(batch, 0), _place(batch, batch.num_rows - 1), path, number))
        return table

    def part(self, name: str) -> Spool:
        """Return a spool for rows of another kind, within this one."""
        (folder := self.folder / name).mkdir()
        return Spool(folder)

    def hold(self, stage: Stage, bucket: int, rows: bytes) -> None:
        """Keep rows that wait: the pickled list that a piece holds."""
        with self._bucket(stage, bucket).open("ab") as file:
            file.write(len(rows).to_bytes(8, "big") + rows)

    def buckets(self, stage: Stage) -> list[Path]:
        """Return the files that hold what waits for a stage."""
        return sorted(self.folder.glob(f"{stage}-*.held"))

    def _bucket(self, stage: Stage, number: int) -> Path:
        return self.folder / f"{stage}-{number:05}.held"

    def sorted_rows(self) -> Iterator[pa.Table]:
        """Yield all finished rows by place, some thousands at a time.

        Runs of stretches follow one another; those of buckets lie across them all. Between two starts of batches
        each run has at most one batch, so that a few rows of each are held and not the whole.
        """
        batches = deque(sorted(self._batches))
        starts = sorted({batch.first for batch in batches})
        open_batches: list[tuple[_Batch, pa.Table]] = []
        for number, start in enumerate(starts):
            end = starts[number + 1] if number + 1 < len(starts) else None
            while batches and batches[0].first == start:
                batch = batches.popleft()
                open_batches.append((batch, _read(batch)))
            parts = [_between(table, start, end) for _, table in open_batches]
            yield pa.concat_tables(parts).sort_by([(name, "ascending") for name in PLACE])
            open_batches = [(batch, table) for batch, table in open_batches if end is not None and batch.last >= end]


@contextlib.contextmanager
def spool_beside(out: Path) -> Iterator[Spool]:
    """Open a spool in a folder beside `out`, and remove it at the end, with those that killed runs left.

    Raises:
        DataRefused: nothing can be written beside `out`.
    """
    prefix = f".{out.name}.spool-"
    for left in out.parent.glob(f"{prefix}*"):
        with contextlib.suppress(BlockingIOError, FileNotFoundError), _locked(left):
            shutil.rmtree(left, ignore_errors=True)
    try:
        folder = Path(mkdtemp(prefix=prefix, dir=out.parent))
    except OSError as error:
        raise DataRefused(f"{out}: cannot be written: {error.strerror}") from error
    try:
        with _locked(folder):
            yield Spool(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[IO[bytes]]:
    # The kernel lets go of the lock of a process that is killed: a folder without one has no owner.
    with (folder / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file


def _read(batch: _Batch) -> pa.Table:
    with pa.OSFile(str(batch.path)) as file:
        return pa.Table.from_batches([pa.ipc.open_file(file).get_batch(batch.number)])


def _place(batch: pa.RecordBatch, row: int) -> tuple[int, int, int]:
    first, second, third = (batch.column(name)[row].as_py() for name in PLACE)
    return first, second, third


def _between(table: pa.Table, start: tuple[int, int, int], end: tuple[int, int, int] | None) -> pa.Table:
    """Return the rows from one place up to before another."""
    first = _rows_before(table, start)
    return table.slice(first, (table.num_rows if end is None else _rows_before(table, end)) - first)


def _rows_before(table: pa.Table, place: tuple[int, int, int]) -> int:
    low, high = 0, table.num_rows
    for name, value in zip(PLACE, place, strict=True):  # each column is sorted where those before it are equal
        column = np.asarray(table[name].combine_chunks())[low:high]
        low, high = (
            low + int(np.searchsorted(column, value, "left")),
            low + int(np.searchsorted(column, value, "right")),
        )
    return low
