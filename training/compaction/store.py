"""The folder of compacted logs: names, atomic writing, one writer at a time.

    decisions/day=2026-11-21/<spool file>.parquet    decisions of that UTC day, joined with their outcomes
    checks/day=2026-11-21/<spool file>.parquet       verdicts of that UTC day on answers of the weak model
    outcomes/<spool file>.parquet                    outcomes; written last: the spool file is compacted once it exists

Names come from the spool's, so that a run repeated after a crash overwrites its own files and adds nothing.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from turnout.serving.files import replacing, sync_folder
from turnout.training.errors import DataRefused

PARQUET = ".parquet"
_DRAFT = ".tmp"
_DAY = "day="


class Store:
    """A folder of compacted logs. Make one inside `opened`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outcomes = folder / "outcomes"
        self.decisions = folder / "decisions"
        self.checks = folder / "checks"

    def decision_files(self) -> list[Path]:
        """Return the files of decisions, in the order of days and names."""
        return sorted(self.decisions.glob(f"{_DAY}*/*{PARQUET}"))

    def check_files(self) -> list[Path]:
        """Return the files of verdicts, in the order of days and names."""
        return sorted(self.checks.glob(f"{_DAY}*/*{PARQUET}"))

    def outcome_files(self) -> list[Path]:
        """Return the files of outcomes, in the order of names."""
        return sorted(self.outcomes.glob(f"*{PARQUET}"))

    def decision_file(self, day: dt.date, stem: str) -> Path:
        """Return where the decisions of a day from the spool file `stem` belong."""
        return self.decisions / f"{_DAY}{day:%Y-%m-%d}" / f"{stem}{PARQUET}"

    def check_file(self, day: dt.date, stem: str) -> Path:
        """Return where the verdicts of a day from the spool file `stem` belong."""
        return self.checks / f"{_DAY}{day:%Y-%m-%d}" / f"{stem}{PARQUET}"

    def outcome_file(self, stem: str) -> Path:
        """Return where the outcomes from the spool file `stem` belong."""
        return self.outcomes / f"{stem}{PARQUET}"


def day_of(path: Path) -> dt.date:
    """Return the UTC day of a file of decisions or verdicts."""
    return dt.date.fromisoformat(path.parent.name.removeprefix(_DAY))


@contextlib.contextmanager
def opened(folder: Path, *, make: bool = False) -> Iterator[Store]:
    """Hold the folder for one writer; drafts that a killed one left are removed.

    Raises:
        DataRefused: it is not there (unless `make`), or another process is at work on it.
    """
    if not make and not folder.is_dir():
        raise DataRefused(f"{folder}: no such folder; expected one that turnout logs compact has written")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DataRefused(
            f"{folder}: another turnout logs command is at work on it; try again when it has ended"
        ) from None
    try:
        for draft in folder.rglob(f".*{_DRAFT}"):
            draft.unlink()
        yield Store(folder)
    finally:
        os.close(descriptor)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet (zstd), synced, under its name only when complete; for its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(path, mode=0o600) as draft:
        pq.write_table(table, draft, compression="zstd")


def replace_table(path: Path, table: pa.Table) -> None:
    """Write what is left of a file; a file without rows goes, and a day's folder with its last file."""
    if table.num_rows:
        write_table(path, table)
        return
    path.unlink()
    sync_folder(path.parent)
    with contextlib.suppress(OSError):  # not empty
        path.parent.rmdir()


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a file of the store; raises `DataRefused` when it is damaged."""
    try:
        with pq.ParquetFile(path) as file:
            return file.read(columns)
    except (OSError, pa.ArrowException) as error:
        raise DataRefused(f"{path}: not a readable Parquet file: {error}; restore it or remove it") from error
