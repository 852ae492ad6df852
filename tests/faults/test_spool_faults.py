"""A server killed or out of disk: no acknowledged outcome is lost, and routing goes on."""

from __future__ import annotations

import asyncio
import itertools
import random
import resource
import time
from pathlib import Path

import grpc
import pytest

from tests.running import server_process
from tests.spool_builders import damages_of, outcomes_of
from turnout.serving.client import AsyncRouter, Router
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.spool.files import spool_files
from turnout.serving.spool.framing import HEADER_BYTES, RECORD_BYTES
from turnout.serving.spool.reader import Damage, SpoolRecord, read_file
from turnout.serving.spool.writer import RETRY_S
from turnout.serving.wire.route import REPORT_OUTCOME_METHOD

N_KILLS = 20
N_CALLERS = 24
PATIENT_S = 60.0


async def report_until_killed(address: str, run: int, kill_after_s: float, process) -> tuple[set[str], set[str]]:
    """Report from many callers, kill the server in the middle; return ids acknowledged and ids sent."""
    acknowledged: set[str] = set()
    sent: set[str] = set()
    numbers = itertools.count()

    async def caller(report) -> None:
        while process.poll() is None:
            request_id = f"{run}-{next(numbers)}"
            sent.add(request_id)
            try:
                await report(pb.ReportOutcomeRequest(request_id=request_id, score=0.5, task=request_id * 20))
            except grpc.aio.AioRpcError:
                return
            acknowledged.add(request_id)

    async with grpc.aio.insecure_channel(address) as channel:
        report = channel.unary_unary(
            REPORT_OUTCOME_METHOD, request_serializer=pb.ReportOutcomeRequest.SerializeToString
        )
        callers = [asyncio.ensure_future(caller(report)) for _ in range(N_CALLERS)]
        while not acknowledged:  # noqa: ASYNC110  # the clock starts once outcomes flow
            await asyncio.sleep(0.002)
        await asyncio.sleep(kill_after_s)
        process.kill()
        await asyncio.wait_for(asyncio.gather(*callers), PATIENT_S)
    return acknowledged, sent


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_no_acknowledged_outcome_is_lost_when_the_server_is_killed(bundle_folder: Path, tmp_path: Path):
    spool = tmp_path / "spool"
    instants = random.Random(20)
    acknowledged: set[str] = set()
    sent: set[str] = set()
    for run in range(N_KILLS):
        with server_process(bundle_folder, tmp_path / f"{run}.log", spool=spool) as server:
            known, tried = asyncio.run(
                report_until_killed(server.address, run, instants.uniform(0, 0.15), server.process)
            )
        assert known, "nothing was acknowledged: nothing is tested"
        acknowledged |= known
        sent |= tried
    outcomes = outcomes_of(spool)
    kept = {outcome.request_id for outcome in outcomes}
    assert acknowledged <= kept <= sent
    assert len(kept) == len(outcomes)
    assert all(outcome.task == outcome.request_id * 20 for outcome in outcomes)
    assert len(acknowledged) > 50 * N_KILLS
    for path in spool_files(spool):  # every byte is a header, a record or the torn tail
        found = list(read_file(path))
        assert all(one.is_torn_tail for one in found if isinstance(one, Damage))
        sizes = [one.n_bytes if isinstance(one, Damage) else RECORD_BYTES + len(one.payload) for one in found]
        assert HEADER_BYTES + sum(sizes) == path.stat().st_size
        assert [type(one) for one in found[:-1]] == [SpoolRecord] * (len(found) - 1)
    suffixes = [path.suffix for path in spool_files(spool)]
    assert suffixes == [".spool"] * (N_KILLS - 1) + [".open"]  # each start sealed what the one before had left


@pytest.mark.slow
def test_full_disk_refuses_outcomes_keeps_routing_and_recovers(bundle_folder: Path, tmp_path: Path):
    spool = tmp_path / "spool"
    with (
        server_process(bundle_folder, tmp_path / "stderr.log", spool=spool) as server,
        Router(server.address, timeout_s=PATIENT_S) as router,
    ):

        def limit_files(n_bytes: int) -> None:
            _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (n_bytes, hard))

        assert router.report_outcome("before", timeout_s=PATIENT_S)
        (path,) = spool_files(spool)
        limit_files(path.stat().st_size + 30)  # the next record fits in part
        assert not router.report_outcome("half written", timeout_s=PATIENT_S, task="x" * 100)
        limit_files(10)  # not even a header fits
        time.sleep(1.1 * RETRY_S)
        assert not router.report_outcome("no file", timeout_s=PATIENT_S)
        assert not router.report_outcome("refused at once", timeout_s=PATIENT_S)
        assert router.unreported == {"unavailable": 3}
        assert router.route(text="hello").reason == "MODEL"
        limit_files(resource.RLIM_INFINITY)
        time.sleep(1.1 * RETRY_S)
        assert router.report_outcome("after", timeout_s=PATIENT_S)
    assert [outcome.request_id for outcome in outcomes_of(spool)] == ["before", "after"]
    assert damages_of(spool) == []  # the half record is cut off


def test_outcomes_in_flight_are_kept_by_a_server_that_is_told_to_stop(bundle_folder: Path, tmp_path: Path):
    async def check() -> tuple[int, list[bool]]:
        with server_process(bundle_folder, tmp_path / "stderr.log", spool=tmp_path / "spool") as server:
            async with AsyncRouter(server.address) as router:
                assert await router.report_outcome("first", timeout_s=PATIENT_S)
                calls = [asyncio.ensure_future(router.report_outcome(f"{n}", timeout_s=PATIENT_S)) for n in range(200)]
                await asyncio.sleep(0)
                server.process.terminate()
                told = await asyncio.gather(*calls)
                return await asyncio.to_thread(server.wait), told

    code, told = asyncio.run(check())
    acknowledged = {str(n) for n, is_kept in enumerate(told) if is_kept}  # on a busy machine some come too late
    assert (code, bool(acknowledged)) == (0, True)
    assert {"first", *acknowledged} <= {outcome.request_id for outcome in outcomes_of(tmp_path / "spool")}
    assert [path.suffix for path in spool_files(tmp_path / "spool")] == [".spool"]
