"""Reads a spool folder back: intact records in the order of writing, and where bytes had to be left out.

A folder in, `SpoolRecord` and `Damage` out. Safe beside a running server: what it has not written
completely yet looks like the torn tail that a crash leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from turnout.serving.spool.files import OPEN, SEALED, spool_files
from turnout.serving.spool.framing import FORMAT_VERSION, HEADER_BYTES, MARKER, read_header, unframed


@dataclass(frozen=True, slots=True)
class SpoolRecord:
    """One intact record: its kind (`RecordKind`, or one of a later version), its payload, and where it begins."""

    kind: int
    payload: bytes
    path: Path
    offset: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that hold no intact record.

    Attributes:
        path: the file.
        offset: where the bytes begin.
        n_bytes: how many they are.
        is_torn_tail: whether the file ends in them, as a crash in the middle of a write leaves it. Nothing that
            was acknowledged is lost then, unless the disk itself changed the last record.
        what: the damage, in words.
    """

    path: Path
    offset: int
    n_bytes: int
    is_torn_tail: bool
    what: str


def read_spool(folder: Path) -> Iterator[SpoolRecord | Damage]:
    """Return what all files of a folder hold, in the order of their names and of writing.

    Raises:
        OSError: the folder or one of its files can't be read.
    """
    for path in spool_files(folder):
        yield from read_file(path)


def read_file(path: Path) -> Iterator[SpoolRecord | Damage]:
    """Return what one file holds, in the order of writing; after damage, from the next intact record on.

    Holds the whole file in memory, by default at most 64 MiB. Raises `OSError` when it can't be read.
    """
    raw = _bytes_of(path)
    header = read_header(raw)
    if header is None:
        is_short = len(raw) < HEADER_BYTES  # made and not written to yet: no record can be lost
        yield Damage(path, 0, len(raw), is_short, "no complete header" if is_short else "the header is damaged")
        return
    version, salt = header
    if version > FORMAT_VERSION:
        what = f"format {version}, this version of Turnout reads up to {FORMAT_VERSION}"
        yield Damage(path, 0, len(raw), is_torn_tail=False, what=what)
        return
    yield from _records(path, raw, salt)


def _records(path: Path, raw: bytes, salt: int) -> Iterator[SpoolRecord | Damage]:
    offset = HEADER_BYTES
    while offset < len(raw):
        found = unframed(raw, salt, offset)
        if found is None:
            following = _next_intact(raw, salt, offset + 1)
            is_tail = following == len(raw)
            what = "torn tail" if is_tail else "damaged bytes between records"
            yield Damage(path, offset, following - offset, is_tail, what)
            offset = following
        else:
            yield SpoolRecord(found.kind, found.payload, path, offset)
            offset = found.end


def _next_intact(raw: bytes, salt: int, offset: int) -> int:
    """Return where the next intact record begins; the end of the file when there is none."""
    while (offset := raw.find(MARKER, offset)) != -1:
        if unframed(raw, salt, offset) is not None:
            return offset
        offset += 1
    return len(raw)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if path.suffix != OPEN:
            raise
        return path.with_suffix(SEALED).read_bytes()  # its worker sealed it since the folder was listed
