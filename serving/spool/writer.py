"""Writes records on a thread of its own; all that wait at the same time share one fsync (group commit).

Kinds and payloads in, records on disk out. `append` is for what must not be lost: its future is done
once the record is on the disk. `offer` is for what may be lost: it never waits, a full queue drops the
record, and a killed process loses at most the last `FLUSH_S`. Nothing is counted as written before the
sync of its bytes, and what could not be synced is cut off the file again: counts and file agree.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from turnout.serving.errors import TurnoutError
from turnout.serving.spool.files import SpoolFile, make_folder, seal_left_behind, worker_name
from turnout.serving.spool.framing import MAX_PAYLOAD_BYTES

FLUSH_S = 0.5
"""Longest time that an offered record waits for being written."""

RETRY_S = 1.0
"""Time after a failed write in which all is refused at once: a full disk is not hammered on."""

MAX_OFFERED_SHARE = 0.5
"""Share of the queue's bytes that offered records may take: they never keep out what must not be lost."""

STALLED_S = 5.0
"""A group that takes longer hangs: until it is through, records are refused or dropped at once, and that is said."""

CLOSE_S = 5.0
"""Longest time that closing waits for the disk, unless told otherwise."""

_CUT_S = 0.3
"""Longest time for cutting unsynced bytes off: a disk that hangs in a sync may hang there as well."""

_log = logging.getLogger("turnout.spool")


class SpoolFull(TurnoutError):
    """The queue of the writer is full; `wait_s` estimates when it has room."""

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class SpoolFailed(TurnoutError):
    """The record is not known to be on the disk: full, broken or read-only, or the writer is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolLimits:
    """What bounds the spool of one worker.

    Attributes:
        max_file_bytes: a file this long is sealed and the next one begun. Readers hold a file in memory.
        max_age_s: likewise a file this old with a record in it, so that compaction gets it.
        max_pending_records: records that wait or are being written; more are refused or dropped.
        max_pending_bytes: likewise their bytes; bounds the memory that a slow disk can cost.
    """

    max_file_bytes: int = 64 << 20
    max_age_s: float = 3600.0
    max_pending_records: int = 4096
    max_pending_bytes: int = 16 << 20


@dataclass(slots=True)
class SpoolCounts:
    """What one writer has done so far.

    Attributes:
        records: records that are on the disk.
        offered_records: those of them that came by `offer`.
        syncs: fsyncs that succeeded; far fewer than records under load.
        files: files begun.
        failures: writes or fsyncs that failed, each with a whole group.
        failed: records of `append` whose future failed.
        refused: records that `append` had no room for.
        dropped: records of `offer` that found no room, or that are not known to be on the disk.
    """

    records: int = 0
    offered_records: int = 0
    syncs: int = 0
    files: int = 0
    failures: int = 0
    failed: int = 0
    refused: int = 0
    dropped: int = 0


@dataclass(slots=True)
class _Group:
    """Records that are written together; `done` is shared by all of them that were appended."""

    records: list[tuple[int, bytes]] = field(default_factory=list)
    done: Future[None] = field(default_factory=Future)
    n_bytes: int = 0
    n_appended: int = 0

    @property
    def n_offered(self) -> int:
        return len(self.records) - self.n_appended

    def __post_init__(self) -> None:
        self.done.set_running_or_notify_cancel()  # a caller that gives up can't cancel it for the others

    def add(self, kind: int, payload: bytes) -> None:
        self.records.append((kind, payload))
        self.n_bytes += len(payload)


class SpoolWriter:
    """The spool of one worker. Thread-safe.

    Attributes:
        counts: what it has done so far.
    """

    def __init__(self, folder: Path, limits: SpoolLimits) -> None:
        """Make the folder if need be, seal what dead workers left in it, and start the thread.

        Raises:
            OSError: the folder can't be made or written to.
        """
        make_folder(folder)
        n_sealed = seal_left_behind(folder)
        if n_sealed:
            _log.info("spool: sealed %d files of workers that are gone", n_sealed)
        self.counts = SpoolCounts()
        self._folder = folder
        self._limits = limits
        self._worker = worker_name()
        self._condition = threading.Condition()
        self._waiting = _Group()
        self._writing = _Group()
        self._is_closing = False
        self._is_abandoned = False
        self._began_s: float | None = None
        self._says_stall = True
        self._file: SpoolFile | None = None
        self._retry_at_s = 0.0
        self._group_s = 1e-3
        self._thread = threading.Thread(target=self._run, name="turnout-spool", daemon=True)
        self._thread.start()

    def append(self, kind: int, payload: bytes) -> Future[None]:
        """Queue a record; the future is done once it is on the disk, or fails with `SpoolFailed`.

        The future belongs to all records of its group and can't be cancelled. A record whose future failed
        may be in the spool all the same.

        Raises:
            SpoolFull: there is no room in the queue.
            SpoolFailed: the writer is closed, or the disk hangs.
            ValueError: the payload is longer than `MAX_PAYLOAD_BYTES`.
        """
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"expected a payload of at most {MAX_PAYLOAD_BYTES} bytes, got {len(payload)}")
        with self._condition:
            if self._is_closing:
                raise SpoolFailed("the spool is closed")
            if self._is_stalled():
                self.counts.refused += 1
                raise SpoolFailed("the disk of the spool hangs")
            if not self._has_room(len(payload), 1.0):
                self.counts.refused += 1
                raise SpoolFull("the queue of the spool is full", 2 * self._group_s)
            self._waiting.add(kind, payload)
            self._waiting.n_appended += 1
            self._condition.notify()
            return self._waiting.done

    def offer(self, kind: int, payload: bytes) -> bool:
        """Queue a record that may be lost; return whether there was room. Never waits for the disk, never raises."""
        with self._condition:
            is_too_long = len(payload) > MAX_PAYLOAD_BYTES
            has_room = self._has_room(len(payload), MAX_OFFERED_SHARE)
            if self._is_closing or is_too_long or self._is_stalled() or not has_room:
                self.counts.dropped += 1
                return False
            self._waiting.add(kind, payload)
            return True

    def close(self, within_s: float = CLOSE_S) -> None:
        """Write what is queued, seal the file and end the thread; all that is not synced within `within_s` is given up.

        What is given up counts as dropped or failed, its futures fail, and its bytes are cut off the file.
        """
        with self._condition:
            self._is_closing = True
            self._condition.notify()
        self._thread.join(within_s)
        if self._thread.is_alive():
            self._abandon(within_s)

    def _abandon(self, waited_s: float) -> None:
        """Settle the counts without the thread, which hangs in a call to the disk and touches them no more."""
        with self._condition:
            if not (self._writing.records or self._waiting.records):
                return  # all is on the disk; only the sealing of the file hangs, which the next start does
            self._is_abandoned = True
            groups = (self._writing, self._waiting)
            self._writing, self._waiting = _Group(), _Group()
            for group in groups:
                self._count_lost(group)
        cutting = threading.Thread(target=self._cut, name="turnout-spool-cut", daemon=True)
        cutting.start()
        cutting.join(_CUT_S)
        n_lost = sum(len(group.records) for group in groups)
        _log.error(
            "spool: %s did not take %d records within %.1f s; they are given up%s",
            self._folder,
            n_lost,
            waited_s,
            "" if not cutting.is_alive() else ", though the file may hold some of them",
        )
        for group in groups:
            group.done.set_exception(SpoolFailed("the record could not be written to the disk"))

    def _cut(self) -> None:
        file = self._file
        if file is not None:
            file.cut_unsynced()

    def _count_lost(self, group: _Group) -> None:
        self.counts.failed += group.n_appended
        self.counts.dropped += group.n_offered

    def _is_stalled(self) -> bool:
        """Whether the disk hangs; says so in the log once each time."""
        is_stalled = self._began_s is not None and time.monotonic() - self._began_s > STALLED_S
        if is_stalled and self._says_stall:
            self._says_stall = False
            _log.error(
                "spool: %s hangs for more than %g s; outcomes are refused and decisions dropped until it goes on",
                self._folder,
                STALLED_S,
            )
        return is_stalled

    def _has_room(self, n_bytes: int, share: float) -> bool:
        n_pending = len(self._waiting.records) + len(self._writing.records)
        pending_bytes = self._waiting.n_bytes + self._writing.n_bytes
        limits = self._limits
        return (
            n_pending < share * limits.max_pending_records
            and pending_bytes + n_bytes <= share * limits.max_pending_bytes
        )

    def _run(self) -> None:
        while self._take_group():
            started_s = time.monotonic()
            is_written = self._commit(self._writing)
            if not self._finish(time.monotonic() - started_s, is_written=is_written):
                return
            self._rotate()
        self._seal()

    def _take_group(self) -> bool:
        """Wait for something to do and make it the group being written; False once closed and empty, or given up."""
        with self._condition:
            self._condition.wait_for(lambda: self._waiting.n_appended or self._is_closing, FLUSH_S)
            if self._is_abandoned:
                return False
            self._writing, self._waiting = self._waiting, _Group()
            self._began_s = time.monotonic() if self._writing.records else None
            return bool(self._writing.records) or not self._is_closing

    def _commit(self, group: _Group) -> bool:
        """Write the group and sync it; return whether that succeeded."""
        if not group.records:
            return True
        if time.monotonic() < self._retry_at_s:
            return False
        try:
            self._write(group.records)
        except Exception as error:  # noqa: BLE001  # whatever it is, nobody may wait for a thread that is gone
            self._give_up(error)
            return False
        return True

    def _write(self, records: Sequence[tuple[int, bytes]]) -> None:
        if self._file is None:
            self.counts.files += 1
            self._file = SpoolFile(self._folder, self._worker, self.counts.files)
        self._file.append(records)
        self._file.sync()
        self.counts.syncs += 1

    def _give_up(self, error: Exception) -> None:
        """Leave the file: after a failed fsync nobody knows what is on the disk, and a second one would lie."""
        what = error.strerror if isinstance(error, OSError) else type(error).__name__
        _log.error(
            "spool: can't write to %s: %s; outcomes are refused and decisions dropped, tried again every %g s",
            self._folder,
            what,
            RETRY_S,
        )
        self.counts.failures += 1
        self._retry_at_s = time.monotonic() + RETRY_S
        self._cut()
        self._seal()

    def _finish(self, took_s: float, *, is_written: bool) -> bool:
        """Count the group and tell who waits for it; False when it was given up meanwhile, and counted then."""
        with self._condition:
            if self._is_abandoned:
                return False
            group, self._writing = self._writing, _Group()
            self._began_s, self._says_stall = None, True
            if is_written:
                self.counts.records += len(group.records)
                self.counts.offered_records += group.n_offered
                self._group_s += 0.2 * (took_s - self._group_s) if group.n_appended else 0.0
            else:
                self._count_lost(group)
        if is_written:
            group.done.set_result(None)
        else:
            group.done.set_exception(SpoolFailed("the record could not be written to the disk"))
        return True

    def _rotate(self) -> None:
        file = self._file
        if file is not None and (
            file.size_bytes >= self._limits.max_file_bytes or time.monotonic() - file.opened_s >= self._limits.max_age_s
        ):
            self._seal()

    def _seal(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.seal()
        except OSError as error:
            _log.error("spool: can't seal %s: %s", file.path, error.strerror)
