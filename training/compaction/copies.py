"""Copies of a store in an object store: what changed since the last time goes up, what is gone goes.

The folder on the disk stays the one that is written to, since compaction and forgetting need renames and locks, which
object stores lack. Objects appear whole or not at all. What was sent is kept in the folder, by size and time of each
file: no listing is needed, and a run that is killed sends some files again.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa
from pyarrow import fs

from turnout.serving.files import write_whole
from turnout.training.compaction.store import Store
from turnout.training.errors import DataRefused

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Copied:
    """What one run did: files sent, and objects removed."""

    copied: int = 0
    removed: int = 0


class _Sent(msgspec.Struct, frozen=True):
    """Size and time of a file when it was sent."""

    size: int
    mtime_ns: int


def copy_to(store: Store, uri: str) -> Copied:
    """Bring the copies below `uri` in line with the store.

    Args:
        store: held by this process.
        uri: such as `s3://bucket/prefix` or `gs://bucket/prefix`; credentials come from the environment.

    Raises:
        DataRefused: the address can't be used, or something can't be written there.
    """
    record = store.folder / f".copied-{hashlib.sha256(uri.encode()).hexdigest()[:16]}.json"
    sent = _read(record)
    try:
        target, base = fs.FileSystem.from_uri(uri)
        now = {str(path.relative_to(store.folder)): _state(path) for path in _files(store)}
        changed = [name for name, state in now.items() if sent.get(name) != state]
        for name in changed:
            _send(store.folder / name, target, f"{base}/{name}")
        gone = sorted(sent.keys() - now.keys())
        for name in gone:
            _remove(target, f"{base}/{name}")
    except (OSError, pa.ArrowException) as error:
        raise DataRefused(f"{uri}: can't be written to: {error}; the folder itself is complete") from error
    if changed or gone:
        _write(record, now)
    return Copied(len(changed), len(gone))


def _files(store: Store) -> list[Path]:
    return [*store.decision_files(), *store.check_files(), *store.outcome_files()]


def _state(path: Path) -> _Sent:
    stat = path.stat()
    return _Sent(stat.st_size, stat.st_mtime_ns)


def _send(path: Path, target: fs.FileSystem, name: str) -> None:
    if target.type_name == "local":
        target.create_dir(name.rpartition("/")[0], recursive=True)
    with path.open("rb") as source, target.open_output_stream(name) as sink:
        shutil.copyfileobj(source, sink, _CHUNK_BYTES)


def _remove(target: fs.FileSystem, name: str) -> None:
    if target.get_file_info(name).type is fs.FileType.File:
        target.delete_file(name)


def _read(record: Path) -> dict[str, _Sent]:
    try:
        return msgspec.json.decode(record.read_bytes(), type=dict[str, _Sent])
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}  # all is sent again


def _write(record: Path, now: dict[str, _Sent]) -> None:
    write_whole(record, msgspec.json.encode(now))
