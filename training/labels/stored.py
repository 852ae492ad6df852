"""Stored labels: what `turnout label` wrote, put back to the rows of the same logs.

Comes in: the file of labels and the rows just read. Goes out: `Labelled`, as if the labellers had spoken again. The
file carries the digest of each log it was made from, so that labels never reach rows of another log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from turnout.serving.bundles.manifest import Pair
from turnout.training.errors import DataRefused
from turnout.training.labels import Decision, Labelled, Unlabelled
from turnout.training.labels.ledger import LABEL_SCHEMA
from turnout.training.logs.records import Label, Record
from turnout.training.logs.stored_files import LogFile

METADATA_KEY = b"turnout.labels"
FORMAT_VERSION = 1

_Place = tuple[str, int, int]


class Origin(msgspec.Struct, frozen=True):
    """What labels were made from, kept in the metadata of their file.

    Attributes:
        pair: whose answers were compared.
        margin: by how much the weak score may be lower and still match.
        files: SHA-256 (hex) of each log by its name.
        version: of this format.
    """

    pair: Pair
    margin: float
    files: dict[str, str]
    version: int = FORMAT_VERSION


def origin_of(paths: Sequence[LogFile], pair: Pair, margin: float) -> Origin:
    """Return the origin of labels made from these logs."""
    return Origin(pair, margin, {str(path): digest_file(path) for path in paths})


def digest_file(path: LogFile) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def origin_in(schema: pa.Schema) -> Origin:
    """Return the origin that the schema of a labels' file carries; raises `KeyError` or `MsgspecError` without one."""
    return msgspec.json.decode((schema.metadata or {})[METADATA_KEY], type=Origin)


def decision_in(row: Mapping[str, Any]) -> Decision:
    """Return what a row of a labels' file says became of its record."""
    if row["match"] is None:
        return Unlabelled(row["abstained"])
    return Label(row["match"], row["labeller"], row["label_confidence"], row["strong_score"], row["weak_score"])


def label_files(path: Path | None) -> list[Path]:
    """Return the files of labels that a name stands for: itself, those of a folder in order of their names, or none.

    Raises:
        DataRefused: the folder holds none.
    """
    if path is None:
        return []
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.parquet"))
    if not found:
        raise DataRefused(f"{path}: no *.parquet in it; a folder of labels holds files that `turnout label` wrote")
    return found


def pair_of_labels(path: Path) -> Pair:
    """Return whose answers the labels of a file compare; raises `DataRefused` where it is no file of labels."""
    return _read(path)[1].pair


def stored_labels(path: Path, records: Sequence[Record], now: Origin) -> Labelled:
    """Return what became of each record when its label was stored; logs may have been moved or renamed since.

    Args:
        path: as `turnout label` wrote it.
        records: of the same logs, read and joined in the same way.
        now: what the records were made from.

    Raises:
        DataRefused: the file is no file of labels, or it was made from other logs, for another pair, with another
            margin, or with the rows read or joined in another way.
    """
    if path.is_dir():
        raise DataRefused(f"{path}: a folder of labels is for a ladder; name the file of this pair")
    table, then = _read(path)
    if then.pair != now.pair:
        raise DataRefused(
            f"{path}: labels compare {then.pair.strong} and {then.pair.weak}, and not {now.pair.strong} and "
            f"{now.pair.weak}; give --strong and --weak as they were, or label again"
        )
    if then.margin != now.margin:
        raise DataRefused(f"{path}: labels were made with --margin {then.margin}, not {now.margin}; give the same one")
    was = _names(path, then, now)
    rows = {(row["file"], row["line"], row["index"]): row for row in table.to_pylist()}
    places = {(was[file], line, index) for file, line, index in (record.place for record in records)}
    left = {row["id"]: row for place, row in rows.items() if place not in places}
    decisions = [_decision(path, record, rows, left, was) for record in records]
    if len(rows) != len(records):
        raise _read_otherwise(path, f"it has {len(rows)} rows, the logs {len(records)}")
    return Labelled.of(records, decisions)


def _read(path: Path) -> tuple[pa.Table, Origin]:
    try:
        table = pq.read_table(path, columns=LABEL_SCHEMA.names)
        return table, origin_in(table.schema)
    except OSError as error:
        raise DataRefused(f"{path}: cannot be read: {error.strerror or error}") from error
    except (pa.ArrowException, KeyError, msgspec.MsgspecError) as error:
        raise DataRefused(f"{path}: not written by `turnout label`, or by an older one; label again") from error


def _names(path: Path, then: Origin, now: Origin) -> dict[str, str]:
    """Return the name that each log had when it was labelled; equal logs keep their order."""
    by_digest: dict[str, list[str]] = {}
    for name, digest in then.files.items():
        by_digest.setdefault(digest, []).append(name)
    was = dict[str, str]()
    for name, digest in now.files.items():
        if not by_digest.get(digest):
            raise DataRefused(
                f"{path}: {name} is none of the logs that these labels were made from, or has changed since; "
                f"they were made from: {', '.join(then.files)}"
            )
        names = by_digest[digest]
        was[name] = names.pop(names.index(name) if name in names else 0)
    if left := [name for names in by_digest.values() for name in names]:
        raise DataRefused(f"{path}: labels were also made from {', '.join(left)}; name these logs too")
    return was


def _decision(
    path: Path,
    record: Record,
    rows: Mapping[_Place, Mapping[str, Any]],
    left: dict[str, Mapping[str, Any]],
    was: Mapping[str, str],
) -> Decision:
    """Return the label at a record's place, or the one left of its id: of rows that say the same the first stands."""
    file, line, index = record.place
    row = rows.get((was[file], line, index)) or left.pop(record.id, None)
    is_renamed = PurePath(was[file]).name != PurePath(file).name  # ids of rows without one hold the file's name
    if row is None and (record.strong is None) != (record.weak is None):
        return Unlabelled.ONLY_STRONG if record.weak is None else Unlabelled.ONLY_WEAK  # a repetition, counted once
    if row is None or (row["id"] != record.id and not is_renamed):
        raise _read_otherwise(path, f"{file}, line {line}, has no label there")
    return decision_in(row)


def _read_otherwise(path: Path, what: str) -> DataRefused:
    return DataRefused(
        f"{path}: {what}: the logs were read otherwise when they were labelled; give the same --format, --column, "
        "--join and --score-name, or label again"
    )
