"""Spools for tests: files with given records, outcomes, and a disk that waits until the test lets it go on."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from turnout.serving.spool.files import SpoolFile, make_folder
from turnout.serving.spool.framing import RecordKind
from turnout.serving.spool.outcome import Outcome, decode_outcome
from turnout.serving.spool.reader import Damage, SpoolRecord, read_spool


def spool_file(folder: Path, payloads: Sequence[bytes], sequence: int = 1) -> Path:
    """Write a sealed file with one outcome record a payload; return its path."""
    make_folder(folder)
    file = SpoolFile(folder, "worker-test", sequence)
    file.append([(RecordKind.OUTCOME, payload) for payload in payloads])
    file.seal()
    return file.path.with_suffix(".spool")


def records_of(folder: Path) -> list[SpoolRecord]:
    return [found for found in read_spool(folder) if isinstance(found, SpoolRecord)]


def damages_of(folder: Path) -> list[Damage]:
    return [found for found in read_spool(folder) if isinstance(found, Damage)]


def outcomes_of(folder: Path) -> list[Outcome]:
    return [decode_outcome(record.payload) for record in records_of(folder) if record.kind == RecordKind.OUTCOME]


@contextlib.contextmanager
def stuck_disk(folder: Path) -> Iterator[None]:
    """Keep the writers of the folder from making or sealing a file, as a disk that hangs would."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
