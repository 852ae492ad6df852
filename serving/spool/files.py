"""The files of a spool folder: names in the order of writing, one open file a worker, sealed by a rename.

    worker-20261121T053536.123456-0012345-000001.open     being written, locked by its worker
    worker-20261121T053536.123456-0012345-000001.spool    sealed: nobody writes to it any more

The time (UTC) and process id are those of the worker's start, the last number counts its files.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from turnout.serving.files import sync_folder
from turnout.serving.spool.framing import HEADER_BYTES, file_header, framed

OPEN = ".open"
SEALED = ".spool"
_FOLDER_MODE = 0o700
_FILE_MODE = 0o600


def worker_name() -> str:
    """Return the part of the file names that tells this worker from all others, past ones included."""
    now = dt.datetime.now(dt.UTC)
    return f"worker-{now:%Y%m%dT%H%M%S.%f}-{os.getpid():07d}"


def make_folder(folder: Path) -> None:
    """Make the folder, for its owner alone, unless it is there.

    Raises:
        OSError: it can't be made, is no folder, or can't be written to.
    """
    folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder}: not writable")


def spool_files(folder: Path) -> list[Path]:
    """Return the files of a folder, sealed or open, in the order of their workers' start and of writing."""
    by_stem = {path.name.removesuffix(path.suffix): path for path in folder.iterdir() if path.suffix in (OPEN, SEALED)}
    return [by_stem[stem] for stem in sorted(by_stem)]


def seal_left_behind(folder: Path) -> int:
    """Seal the open files of workers that are gone, and return how many; a living worker's file stays open."""
    n_sealed = 0
    with _locked(folder):
        for path in folder.glob("*" + OPEN):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _seal(path, path.stat().st_size)
                n_sealed += 1
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)
    return n_sealed


class SpoolFile:
    """One open file, appended to by one thread.

    Attributes:
        path: where it is until it is sealed.
        size_bytes: bytes written to it, header included.
        synced_bytes: those of them that are on the disk; the header, which holds no record, counts as such.
        opened_s: when it was made, on the monotonic clock.
    """

    def __init__(self, folder: Path, worker: str, sequence: int) -> None:
        """Make the file, so that it is still there after a power failure; raises `OSError` when it can't be."""
        self.path = folder / f"{worker}-{sequence:06d}{OPEN}"
        self.size_bytes = 0
        self.synced_bytes = HEADER_BYTES
        self.opened_s = time.monotonic()
        self._salt = secrets.randbits(32)
        # Under the folder's lock: nobody sees the file before its own lock is held and takes it for left behind.
        with _locked(folder):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, _FILE_MODE)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            self._write(file_header(self._salt))
            sync_folder(folder)
        except OSError:
            self.seal()
            raise

    def append(self, records: Iterable[tuple[int, bytes]]) -> None:
        """Hand records, as kind and payload, to the operating system; raises `OSError` when it takes not all."""
        parts: list[bytes] = []
        offset = self.size_bytes
        for kind, payload in records:
            parts.append(framed(kind, payload, self._salt, offset))
            offset += len(parts[-1])
        self._write(b"".join(parts))

    def sync(self) -> None:
        """Return once all that was appended is on the disk; raises `OSError` when it is not, or the file is gone."""
        size_bytes = self.size_bytes
        os.fdatasync(self._descriptor)
        if not os.fstat(self._descriptor).st_nlink:  # removed by somebody: a sync of it succeeds all the same
            raise FileNotFoundError(errno.ENOENT, "the file was removed", str(self.path))
        self.synced_bytes = size_bytes

    def cut_unsynced(self) -> None:
        """Take back what was appended since the last sync; where the disk refuses even that, it stays."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, self.synced_bytes)
            self.size_bytes = self.synced_bytes

    def seal(self) -> None:
        """Close the file and give it its final name; without any record it is removed."""
        try:
            with _locked(self.path.parent):
                _seal(self.path, self.size_bytes)
        finally:
            os.close(self._descriptor)

    def _write(self, raw: bytes) -> None:
        rest = memoryview(raw)
        while rest:
            n_written = os.write(self._descriptor, rest)
            self.size_bytes += n_written
            rest = rest[n_written:]


def _seal(path: Path, size_bytes: int) -> None:
    if size_bytes > HEADER_BYTES:
        path.rename(path.with_suffix(SEALED))
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock under which files appear and are sealed for others; only for moments."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
