"""A server killed twenty times while it routes and takes in outcomes: what its log has lost, counted.

Bench-marked: `pytest -m bench -s tests/faults/test_twenty_kills.py` prints the figures.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from tests.running import ServerProcess, server_process
from tests.training.spools import outcome_rows, rows
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.spool.decision import decode_decision
from turnout.serving.spool.framing import RecordKind
from turnout.serving.spool.outcome import decode_outcome
from turnout.serving.spool.reader import Damage, SpoolRecord, read_spool
from turnout.serving.wire.route import REPORT_OUTCOME_METHOD, ROUTE_METHOD
from turnout.training.compaction.compact import compact
from turnout.training.compaction.rows import day
from turnout.training.compaction.store import opened

N_KILLS = 20
N_CALLERS = 8
LOST_S = 1.0


@dataclass
class Told:
    """What callers know: by request, how long before the kill it was sent; and outcomes that were acknowledged."""

    ages_s: dict[str, float] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)


async def call_until_killed(server: ServerProcess, run: int, told: Told) -> None:
    """Route and report from many callers, and kill the server at a random moment."""
    sent_s: dict[str, float] = {}
    numbers = itertools.count()

    async def caller(route, report) -> None:
        while server.process.poll() is None:
            request_id = f"{run}-{next(numbers)}"
            now_s = time.monotonic()
            try:
                await route(pb.RouteRequest(request_id=request_id, text="hello the word " * 8).SerializeToString())
                sent_s[request_id] = now_s
                await report(pb.ReportOutcomeRequest(request_id=request_id, score=0.5).SerializeToString())
                told.acknowledged.add(request_id)
            except grpc.aio.AioRpcError:
                return

    async with grpc.aio.insecure_channel(server.address) as channel:
        methods = channel.unary_unary(ROUTE_METHOD), channel.unary_unary(REPORT_OUTCOME_METHOD)
        callers = [asyncio.ensure_future(caller(*methods)) for _ in range(N_CALLERS)]
        await asyncio.sleep(LOST_S + random.Random(run).uniform(0.2, 1.2))
        killed_s = time.monotonic()
        server.process.kill()
        await asyncio.wait_for(asyncio.gather(*callers), 60)
    told.ages_s |= {request_id: killed_s - at_s for request_id, at_s in sent_s.items()}


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_twenty_kills_lose_no_outcome_and_at_most_the_last_second_of_decisions(bundle_folder: Path, tmp_path: Path):
    spool, told = tmp_path / "spool", Told()
    for run in range(N_KILLS):
        log = tmp_path / f"{run}.log"
        with server_process(bundle_folder, log, "--log-decisions", "redacted", spool=spool) as server:
            asyncio.run(call_until_killed(server, run, told))
    found = list(read_spool(spool))
    damages = [one for one in found if isinstance(one, Damage)]
    records = [one for one in found if isinstance(one, SpoolRecord)]
    decisions = [decode_decision(one.payload).request_id for one in records if one.kind == RecordKind.DECISION]
    outcomes = [decode_outcome(one.payload).request_id for one in records if one.kind == RecordKind.OUTCOME]
    lost_s = [age_s for request_id, age_s in told.ages_s.items() if request_id not in set(decisions)]
    print(
        f"\n{N_KILLS} kills: {len(told.ages_s)} decisions answered, {len(lost_s)} lost, the oldest "
        f"{max(lost_s, default=0.0):.2f} s before its kill; {len(told.acknowledged)} outcomes acknowledged, "
        f"{len(told.acknowledged - set(outcomes))} lost; {len(damages)} torn tails"
    )
    assert all(one.is_torn_tail for one in damages)
    assert told.acknowledged <= set(outcomes)
    assert max(lost_s, default=0.0) <= LOST_S
    assert len(set(decisions)) == len(decisions)
    assert sum(age_s > LOST_S for age_s in told.ages_s.values()) > 100 * N_KILLS

    with opened(tmp_path / "logs", make=True) as store:
        compact(spool, store, None, day(time.time()))
    assert sorted(row["id"] for row in rows(tmp_path / "logs")) == sorted(decisions)
    assert {row["request_id"] for row in outcome_rows(tmp_path / "logs")} == set(outcomes)
    assert list(spool.glob("*.spool")) == []
