"""The writer of the spool: one fsync for many, nothing acknowledged before it, bounded, rotated, recovering."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.spool_builders import damages_of, records_of, stuck_disk
from turnout.serving.spool.files import SEALED, SpoolFile, make_folder, seal_left_behind, spool_files
from turnout.serving.spool.framing import HEADER_BYTES, MAX_PAYLOAD_BYTES, RecordKind
from turnout.serving.spool.writer import RETRY_S, SpoolFailed, SpoolFull, SpoolLimits, SpoolWriter

PATIENT_S = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def wait_until(is_so: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + PATIENT_S
    while not is_so():
        assert time.monotonic() < ends_s
        time.sleep(0.01)


def append(writer: SpoolWriter, payload: bytes) -> Future[None]:
    return writer.append(RecordKind.OUTCOME, payload)


def payloads_of(folder: Path) -> list[bytes]:
    return [record.payload for record in records_of(folder)]


def test_all_that_wait_share_one_fsync(folder: Path):
    writer = SpoolWriter(folder, SpoolLimits())
    with stuck_disk(folder):
        first = append(writer, b"first")
        wait_until(lambda: writer._writing.records != [])  # taken, and waiting for the disk
        waiting = [append(writer, b"%d" % number) for number in range(500)]
        assert not any(future.done() for future in (first, *waiting))
    for future in (first, *waiting):
        future.result(PATIENT_S)
    assert (writer.counts.records, writer.counts.syncs) == (501, 2)
    assert payloads_of(folder) == [b"first", *(b"%d" % number for number in range(500))]
    writer.close()


def test_nothing_is_acknowledged_before_an_fsync_of_all_its_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch):
    synced_bytes: list[int] = []
    to_disk = os.fdatasync

    def watched(descriptor: int) -> None:
        to_disk(descriptor)
        synced_bytes.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fdatasync", watched)
    writer = SpoolWriter(folder, SpoolLimits())
    for number in range(1, 4):
        append(writer, b"x" * 100).result(PATIENT_S)
        (path,) = spool_files(folder)
        assert synced_bytes[-1] == path.stat().st_size
        assert len(synced_bytes) == writer.counts.syncs == number
    writer.close()


def test_failed_fsync_is_never_tried_again_on_the_same_file(folder: Path, monkeypatch: pytest.MonkeyPatch):
    to_disk = os.fdatasync

    def broken(descriptor: int) -> None:
        del descriptor
        raise OSError(errno.EIO, "Input/output error")

    writer = SpoolWriter(folder, SpoolLimits())
    append(writer, b"before").result(PATIENT_S)
    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(SpoolFailed, match="could not be written"):
        append(writer, b"uncertain").result(PATIENT_S)
    monkeypatch.setattr(os, "fdatasync", to_disk)
    time.sleep(RETRY_S)
    append(writer, b"after").result(PATIENT_S)
    assert [path.suffix for path in spool_files(folder)] == [".spool", ".open"]
    assert payloads_of(folder) == [b"before", b"after"]  # what was refused is not in the file either
    writer.close()


def test_appended_from_many_threads_all_are_there_in_the_order_of_each(folder: Path):
    writer = SpoolWriter(folder, SpoolLimits(max_file_bytes=2_000))

    def append_many(name: int) -> None:
        for number in range(50):
            append(writer, b"%d %d" % (name, number)).result(PATIENT_S)

    threads = [threading.Thread(target=append_many, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    read = [tuple(map(int, payload.split())) for payload in payloads_of(folder)]
    assert sorted(read) == [(name, number) for name in range(8) for number in range(50)]
    assert [[number for name, number in read if name == wanted] for wanted in range(8)] == [list(range(50))] * 8
    assert writer.counts.syncs <= writer.counts.records == 400
    assert writer.counts.files > 3
    assert damages_of(folder) == []


def test_full_queue_refuses_and_says_when_to_come_back(folder: Path):
    writer = SpoolWriter(folder, SpoolLimits(max_pending_records=10, max_pending_bytes=1_000))
    with stuck_disk(folder):
        futures = [append(writer, b"x") for _ in range(10)]
        with pytest.raises(SpoolFull) as full:
            append(writer, b"x")
        assert full.value.wait_s > 0
    for future in futures:
        future.result(PATIENT_S)
    append(writer, b"y" * 1_000).result(PATIENT_S)
    with stuck_disk(folder), pytest.raises(SpoolFull):
        append(writer, b"y" * 1_001)
    assert writer.counts.refused == 2
    writer.close()


def test_offered_records_never_keep_out_appended_ones_and_drops_are_counted(folder: Path):
    writer = SpoolWriter(folder, SpoolLimits(max_pending_records=10))
    with stuck_disk(folder):
        assert [writer.offer(RecordKind.DECISION, b"d") for _ in range(8)] == [True] * 5 + [False] * 3
        futures = [append(writer, b"o") for _ in range(5)]
    for future in futures:
        future.result(PATIENT_S)
    assert not writer.offer(RecordKind.DECISION, b"d" * (MAX_PAYLOAD_BYTES + 1))
    assert writer.counts.dropped == 4
    assert [record.kind for record in records_of(folder)] == [RecordKind.DECISION] * 5 + [RecordKind.OUTCOME] * 5
    writer.close()


def test_offered_records_share_an_fsync_that_nobody_asks_for_and_are_counted_after_it(folder: Path):
    writer = SpoolWriter(folder, SpoolLimits())
    assert [writer.offer(RecordKind.DECISION, b"d") for _ in range(20)] == [True] * 20
    wait_until(lambda: payloads_of(folder) == [b"d"] * 20)
    wait_until(lambda: writer.counts.offered_records == 20)
    assert writer.counts.syncs <= 2
    writer.close()
    assert not writer.offer(RecordKind.DECISION, b"late")


def test_close_writes_what_waits_and_seals_the_file(folder: Path):
    writer = SpoolWriter(folder, SpoolLimits())
    with stuck_disk(folder):
        futures = [append(writer, b"%d" % number) for number in range(20)]
        closing = threading.Thread(target=writer.close)
        closing.start()
        wait_until(lambda: writer._is_closing)
        with pytest.raises(SpoolFailed, match="closed"):
            append(writer, b"late")
    closing.join()
    assert all(future.done() and future.exception() is None for future in futures)
    assert [path.suffix for path in spool_files(folder)] == [".spool"]
    assert len(payloads_of(folder)) == 20


def test_file_is_sealed_by_age_also_when_nothing_comes(folder: Path):
    writer = SpoolWriter(folder, SpoolLimits(max_age_s=0.05))
    append(writer, b"x").result(PATIENT_S)
    wait_until(lambda: [path.suffix for path in spool_files(folder)] == [".spool"])
    append(writer, b"y").result(PATIENT_S)
    writer.close()
    assert (payloads_of(folder), writer.counts.files) == ([b"x", b"y"], 2)


def test_only_the_owner_can_read_it(folder: Path):
    writer = SpoolWriter(folder, SpoolLimits())
    append(writer, b"x").result(PATIENT_S)
    (path,) = spool_files(folder)
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(path.stat().st_mode)) == (0o700, 0o600)
    writer.close()


def test_writer_that_writes_nothing_leaves_nothing(folder: Path):
    SpoolWriter(folder, SpoolLimits()).close()
    assert list(folder.iterdir()) == []


def test_file_left_behind_is_sealed_and_one_of_a_living_worker_is_not(folder: Path):
    make_folder(folder)
    alive = SpoolFile(folder, "worker-alive", 1)
    alive.append([(RecordKind.OUTCOME, b"a")])
    (folder / "worker-dead-000001.open").write_bytes(b"x" * (HEADER_BYTES + 1))
    (folder / "worker-dead-000002.open").write_bytes(b"x" * HEADER_BYTES)
    assert seal_left_behind(folder) == 2
    assert [path.name for path in spool_files(folder)] == ["worker-alive-000001.open", "worker-dead-000001.spool"]
    alive.seal()


def test_folder_taken_away_refuses_and_recovers_in_a_new_file(folder: Path):
    writer = SpoolWriter(folder, SpoolLimits(max_file_bytes=1))
    append(writer, b"lost with the folder").result(PATIENT_S)
    wait_until(lambda: [path.suffix for path in spool_files(folder)] == [SEALED])  # the next record needs a file
    shutil.rmtree(folder)
    with pytest.raises(SpoolFailed):
        append(writer, b"refused").result(PATIENT_S)
    make_folder(folder)
    with pytest.raises(SpoolFailed):  # refused at once: a broken disk is tried once a second
        append(writer, b"refused too").result(PATIENT_S)
    assert (writer.counts.failures, writer.counts.failed) == (1, 2)
    time.sleep(RETRY_S)
    append(writer, b"kept").result(PATIENT_S)
    writer.close()
    assert payloads_of(folder) == [b"kept"]


def test_too_long_payload_is_refused_by_name(folder: Path):
    writer = SpoolWriter(folder, SpoolLimits())
    with pytest.raises(ValueError, match=f"at most {MAX_PAYLOAD_BYTES}"):
        append(writer, b"x" * (MAX_PAYLOAD_BYTES + 1))
    writer.close()


def test_a_disk_that_hangs_has_records_refused_and_dropped_until_it_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("turnout.serving.spool.writer.STALLED_S", 0.05)
    writer = SpoolWriter(folder, SpoolLimits())
    with stuck_disk(folder):
        first = append(writer, b"first")
        wait_until(lambda: writer._writing.records != [])
        time.sleep(0.1)
        with pytest.raises(SpoolFailed, match="hangs"):
            append(writer, b"refused")
        assert not writer.offer(RecordKind.DECISION, b"dropped")
    first.result(PATIENT_S)
    append(writer, b"second").result(PATIENT_S)
    writer.close()
    assert payloads_of(folder) == [b"first", b"second"]
    assert (writer.counts.refused, writer.counts.dropped) == (1, 1)
    assert caplog.text.count("hangs for more than") == 1


def test_what_a_closing_writer_gives_up_is_counted_once_and_its_callers_are_told(folder: Path):
    writer = SpoolWriter(folder, SpoolLimits())
    with stuck_disk(folder):
        appended = append(writer, b"o")
        wait_until(lambda: writer._writing.records != [])
        offered = [writer.offer(RecordKind.DECISION, b"d") for _ in range(7)]
        writer.close(0.05)
        assert isinstance(appended.exception(PATIENT_S), SpoolFailed)
        assert (writer.counts.failed, writer.counts.dropped, writer.counts.records) == (1, len(offered), 0)
    writer._thread.join(PATIENT_S)
    assert (writer.counts.failed, writer.counts.dropped, writer.counts.records) == (1, len(offered), 0)
