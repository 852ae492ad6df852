"""The ledger of decisions and outcomes: what is counted as written is on the disk, all else is dropped, to the unit."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from pathlib import Path

import grpc
import pytest

from tests.disks import hanging_disk, small_disk
from tests.running import server_process
from tests.spool_builders import outcomes_of, records_of
from turnout.serving.cli.scrape import scrape
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.spool.framing import RecordKind
from turnout.serving.wire.route import REPORT_OUTCOME_METHOD, ROUTE_METHOD

N_RUNS = int(os.environ.get("TURNOUT_TEST_LEDGER_RUNS", "1"))
"""Runs of each fault, for a longer look."""
LOG = ("--log-decisions", "full")
PATIENT_S = 60
LONG_TEXT = "hello the word " * 150
runs = pytest.mark.parametrize("run", range(N_RUNS))
# ruff: noqa: ARG001  # the number of the run tells it apart and nothing else


def decisions_in(spool: Path) -> int:
    return sum(record.kind == RecordKind.DECISION for record in records_of(spool))


async def _route_all(address: str, n_calls: int, text: str) -> int:
    n_answered = 0
    limit = asyncio.Semaphore(16)
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(ROUTE_METHOD, request_serializer=pb.RouteRequest.SerializeToString)

        async def one(number: int) -> None:
            nonlocal n_answered
            async with limit:
                await call(pb.RouteRequest(request_id=f"{number}", text=text), timeout=PATIENT_S)
            n_answered += 1

        await asyncio.gather(*(one(number) for number in range(n_calls)))
    return n_answered


def route_all(address: str, n_calls: int, text: str = "hello") -> int:
    return asyncio.run(_route_all(address, n_calls, text))


def counted_at_exit(log: Path) -> tuple[int, int]:
    """Return the sums of what the workers' logs say in their last lines: written, dropped."""
    found = re.findall(r"decision log: (\d+) written, (\d+) dropped", log.read_text())
    return sum(int(one[0]) for one in found), sum(int(one[1]) for one in found)


def metric(log: Path, result: str) -> int:
    url = re.findall(r"metrics on (\S+)", log.read_text())[-1]
    return round(scrape(url, 60).total("turnout_decision_log_total", result=result))


def until_metric(log: Path, is_so) -> tuple[int, int]:
    ends_s = time.monotonic() + PATIENT_S
    while not is_so(counts := (metric(log, "written"), metric(log, "dropped"))):
        assert time.monotonic() < ends_s, counts
        time.sleep(0.2)
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@runs
def test_a_full_disk_drops_what_does_not_fit_and_counts_it(bundle_folder: Path, tmp_path: Path, workers: int, run: int):
    log = tmp_path / "stderr.log"
    options = (*LOG, "--metrics", "127.0.0.1:0")
    with (
        small_disk(tmp_path / "spool") as spool,
        server_process(bundle_folder, log, *options, spool=spool, workers=workers) as server,
    ):
        n_decisions = route_all(server.address, 1500, LONG_TEXT)
        counts = until_metric(log, lambda counts: sum(counts) == n_decisions)
        assert counts[1] > 0
        assert counts[0] == decisions_in(spool)
        server.process.terminate()
        assert server.wait(PATIENT_S) == 0
        assert counted_at_exit(log) == counts
        assert decisions_in(spool) == counts[0]
        assert "decisions dropped" in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@runs
def test_a_disk_that_hangs_writes_nothing_and_the_end_comes_within_the_grace(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, run: int
):
    hangs = hanging_disk(tmp_path, monkeypatch)
    log, spool = tmp_path / "stderr.log", tmp_path / "spool"
    with server_process(bundle_folder, log, *LOG, "--grace-s", 3, spool=spool, workers=workers) as server:
        n_before = route_all(server.address, 100)
        ends_s = time.monotonic() + PATIENT_S
        while decisions_in(spool) < n_before and time.monotonic() < ends_s:
            time.sleep(0.05)
        time.sleep(1)  # the last sync may come after the bytes can be read
        hangs.touch()
        n_after = route_all(server.address, 300)
        server.process.terminate()
        started_s = time.monotonic()
        assert server.wait(PATIENT_S) == 0
        took_s = time.monotonic() - started_s
    assert counted_at_exit(log) == (decisions_in(spool), n_before + n_after - decisions_in(spool))
    assert decisions_in(spool) == n_before
    # Lame duck, grace, and what a busy machine takes to end a process; the disk hangs for good.
    assert took_s < 0.2 + 3 + 50


@pytest.mark.slow
@runs
def test_told_to_stop_a_server_has_written_all_that_it_decided(bundle_folder: Path, tmp_path: Path, run: int):
    log, spool = tmp_path / "stderr.log", tmp_path / "spool"
    with server_process(bundle_folder, log, *LOG, "--grace-s", 30, spool=spool, workers=2) as server:
        n_decisions = route_all(server.address, 500)
        server.process.terminate()
        assert server.wait(PATIENT_S) == 0
    assert counted_at_exit(log) == (n_decisions, 0)
    assert decisions_in(spool) == n_decisions


@runs
def test_killed_the_file_holds_all_that_was_counted(bundle_folder: Path, tmp_path: Path, run: int):
    log, spool = tmp_path / "stderr.log", tmp_path / "spool"
    with server_process(bundle_folder, log, *LOG, "--metrics", "127.0.0.1:0", spool=spool) as server:
        n_decisions = route_all(server.address, 400)
        written, dropped = until_metric(log, lambda counts: counts[0] > 0)
        server.process.kill()
        server.wait(PATIENT_S)
    assert dropped == 0
    assert written <= decisions_in(spool) <= n_decisions  # more: synced, or on its way, since the metric was sampled


@pytest.mark.slow
def test_outcomes_that_a_hanging_disk_did_not_take_are_refused_and_not_in_the_file(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hangs = hanging_disk(tmp_path, monkeypatch)
    log, spool = tmp_path / "stderr.log", tmp_path / "spool"

    async def report(address: str, request_id: str) -> grpc.StatusCode:
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(
                REPORT_OUTCOME_METHOD, request_serializer=pb.ReportOutcomeRequest.SerializeToString
            )
            try:
                await call(pb.ReportOutcomeRequest(request_id=request_id, score=0.5), timeout=PATIENT_S)
            except grpc.aio.AioRpcError as error:
                return error.code()
        return grpc.StatusCode.OK

    async def check(server) -> None:
        assert await report(server.address, "kept") == grpc.StatusCode.OK
        hangs.touch()
        waiting = asyncio.ensure_future(report(server.address, "hangs"))
        await asyncio.sleep(1)
        server.process.terminate()
        assert await waiting == grpc.StatusCode.UNAVAILABLE
        assert await asyncio.to_thread(server.wait, PATIENT_S) == 0

    with server_process(bundle_folder, log, "--grace-s", 2, spool=spool) as server:
        asyncio.run(check(server))
    assert [outcome.request_id for outcome in outcomes_of(spool)] == ["kept"]


@pytest.mark.slow
def test_decisions_of_a_file_that_somebody_removed_are_dropped_and_later_ones_are_written(
    bundle_folder: Path, tmp_path: Path
):
    """A sync of a removed file succeeds: what it took is nowhere all the same."""
    log, spool = tmp_path / "stderr.log", tmp_path / "spool"
    options = (*LOG, "--metrics", "127.0.0.1:0")
    with server_process(bundle_folder, log, *options, spool=spool) as server:
        n_first = route_all(server.address, 20)
        assert until_metric(log, lambda counts: counts[0] == n_first)[1] == 0
        shutil.rmtree(spool)
        n_lost = route_all(server.address, 20)
        assert until_metric(log, lambda counts: sum(counts) == n_first + n_lost) == (n_first, n_lost)
        assert "the file was removed" in log.read_text()
        spool.mkdir()
        time.sleep(1.5)  # past the second in which a disk that failed is let be
        n_last = route_all(server.address, 20)
        assert until_metric(log, lambda counts: sum(counts) == n_first + n_lost + n_last) == (n_first + n_last, n_lost)
        server.process.terminate()
        assert server.wait(PATIENT_S) == 0
    assert decisions_in(spool) == n_last
