"""A server killed under load: the decisions of all but its last second are in the spool, and nothing that is none."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from pathlib import Path

import grpc
import pytest

from tests.running import server_process
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.spool.decision import decode_decision
from turnout.serving.spool.framing import RecordKind
from turnout.serving.spool.reader import Damage, SpoolRecord, read_spool
from turnout.serving.wire.route import ROUTE_METHOD

N_KILLS = 4
N_CALLERS = 8
LOST_S = 1.0


async def route_until_killed(address: str, run: int, process) -> dict[str, float]:
    """Route from many callers, kill the server in the middle; return how long before it each answered id was sent."""
    answered: dict[str, float] = {}
    numbers = itertools.count()

    async def caller(call) -> None:
        while process.poll() is None:
            request_id = f"{run}-{next(numbers)}"
            sent_s = time.monotonic()
            try:
                await call(pb.RouteRequest(request_id=request_id, text="hello the word " * 8))
            except grpc.aio.AioRpcError:
                return
            answered[request_id] = sent_s

    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(ROUTE_METHOD, request_serializer=pb.RouteRequest.SerializeToString)
        callers = [asyncio.ensure_future(caller(call)) for _ in range(N_CALLERS)]
        await asyncio.sleep(LOST_S + random.Random(run).uniform(0.5, 1.5))
        killed_s = time.monotonic()
        process.kill()
        await asyncio.wait_for(asyncio.gather(*callers), 60)
    return {request_id: killed_s - sent_s for request_id, sent_s in answered.items()}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_killed_under_load_at_most_the_last_second_of_decisions_is_lost(bundle_folder: Path, tmp_path: Path):
    spool = tmp_path / "spool"
    ages_s: dict[str, float] = {}
    for run in range(N_KILLS):
        options = ("--log-decisions", "redacted")
        with server_process(bundle_folder, tmp_path / f"{run}.log", *options, spool=spool) as server:
            ages_s |= asyncio.run(route_until_killed(server.address, run, server.process))
    found = list(read_spool(spool))
    assert all(one.is_torn_tail for one in found if isinstance(one, Damage))
    records = [one for one in found if isinstance(one, SpoolRecord)]
    assert {record.kind for record in records} == {RecordKind.DECISION}
    kept = [decode_decision(record.payload).request_id for record in records]
    assert len(kept) == len(set(kept))
    lost = {request_id: age_s for request_id, age_s in ages_s.items() if request_id not in set(kept)}
    assert sum(age_s > LOST_S for age_s in ages_s.values()) > 100 * N_KILLS
    assert max(lost.values(), default=0.0) <= LOST_S
