"""ReportOutcome over a real server: checked, kept, refused by the contract, and never in the way of Route."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.gates import until
from tests.running import ServerProcess, server_in_loop
from tests.spool_builders import outcomes_of, stuck_disk
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.client import AsyncRouter, Router
from turnout.serving.errors import InvalidRequest
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.server.running import RouterServer
from turnout.serving.service.outcomes import OutcomeIntake
from turnout.serving.settings import ServerSettings, SettingsRefused
from turnout.serving.spool.outcome import Outcome, decode_outcome, encode_outcome
from turnout.serving.wire.outcome import MAX_OUTCOME_BYTES, outcome_request, read_outcome
from turnout.serving.wire.route import REPORT_OUTCOME_METHOD

PATIENT_S = 60.0
FIELDS = {
    "tier": "strong",
    "model": "gpt-4o",
    "score": 0.5,
    "preference": "tie",
    "error_code": "HTTP_429.a-b",
    "prompt_tokens": 0,
    "completion_tokens": 7,
    "cached_tokens": 1 << 40,
    "latency_ms": 0.25,
    "bundle": "tiny/1",
    "tenant": "a",
    "session_id": "b",
    "task": "c",
}
NAMES = st.text(max_size=20)
COUNTS = st.none() | st.integers(0, 2**63 - 1)


@asynccontextmanager
async def reporting(
    bundle: Bundle, spool: Path | None, **settings: Any
) -> AsyncIterator[tuple[RouterServer, str, Any]]:
    """Serve with a spool; gives the server, its address, and a function that calls ReportOutcome."""
    async with (
        server_in_loop(bundle, spool=spool, **settings) as (server, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield server, address, channel.unary_unary(REPORT_OUTCOME_METHOD)


async def failure_of(call: Awaitable[bytes]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return failed.value


def raw_of(**fields: Any) -> bytes:
    return pb.ReportOutcomeRequest(**{"request_id": "r1"} | fields).SerializeToString()


def test_reported_outcome_is_in_the_spool_with_all_its_fields(bundle: Bundle, tmp_path: Path):
    async def check() -> None:
        async with reporting(bundle, tmp_path / "spool") as (_, address, _), AsyncRouter(address) as router:
            before_s = time.time()
            assert await router.report_outcome("r1", timeout_s=PATIENT_S, **FIELDS)
            assert await router.report_outcome("r2", timeout_s=PATIENT_S)
            full, bare = outcomes_of(tmp_path / "spool")
            assert full == Outcome(request_id="r1", received_s=full.received_s, **FIELDS)
            assert bare == Outcome(request_id="r2", received_s=bare.received_s)
            assert before_s <= full.received_s <= bare.received_s <= time.time()
            assert not router.unreported

    asyncio.run(check())


@given(
    st.builds(
        Outcome,
        request_id=st.text(min_size=1, max_size=20),
        received_s=st.floats(0, 1e10),
        tier=st.sampled_from(["", "weak", "strong"]),
        model=NAMES,
        score=st.none() | st.floats(0, 1),
        preference=st.sampled_from(["", "weak", "strong", "tie"]),
        error_code=st.from_regex(r"[A-Za-z0-9._-]{0,64}", fullmatch=True),
        prompt_tokens=COUNTS,
        completion_tokens=COUNTS,
        cached_tokens=COUNTS,
        latency_ms=st.none() | st.floats(0, 1e12),
        bundle=NAMES,
        tenant=NAMES,
        session_id=NAMES,
        task=NAMES,
    )
)
def test_outcome_survives_client_wire_and_spool(outcome: Outcome):
    known = {name: getattr(outcome, name) for name in FIELDS if getattr(outcome, name) is not None}
    raw = outcome_request(outcome.request_id, known).SerializeToString()
    assert decode_outcome(encode_outcome(read_outcome(raw, outcome.received_s))) == outcome


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"request_id": ""}, "request_id"),
        ({"tier": 7}, "tier"),
        ({"model": "é" * 129}, "model: expected at most 256 bytes, got 258"),
        ({"score": 1.5}, "score"),
        ({"score": float("nan")}, "score"),
        ({"preference": "canary"}, "preference"),
        ({"error_code": "canary canary"}, "error_code"),
        ({"error_code": "x\n"}, "error_code"),
        ({"error_code": "x" * 65}, "error_code"),
        ({"prompt_tokens": -1}, "prompt_tokens"),
        ({"completion_tokens": -1}, "completion_tokens"),
        ({"cached_tokens": -1}, "cached_tokens"),
        ({"latency_ms": -0.5}, "latency_ms"),
        ({"latency_ms": float("inf")}, "latency_ms"),
        ({"task": "x" * MAX_OUTCOME_BYTES}, f"at most {MAX_OUTCOME_BYTES}"),
    ],
)
def test_field_out_of_its_range_is_refused_by_name(fields: dict, says: str):
    with pytest.raises(InvalidRequest, match=says) as refused:
        read_outcome(raw_of(**fields), 0.0)
    assert "canary" not in str(refused.value)


@given(st.binary(max_size=80))
def test_any_bytes_are_an_outcome_or_an_invalid_request(raw: bytes):
    try:
        read = read_outcome(raw, 0.0)
    except InvalidRequest:
        return
    assert read.request_id


def test_bad_bytes_over_the_wire_are_invalid_argument_and_leave_nothing(bundle: Bundle, tmp_path: Path):
    async def check() -> None:
        async with reporting(bundle, tmp_path) as (_, _, report):
            for raw in (b"\xff", raw_of(score=-1), b""):
                failed = await failure_of(report(raw))
                assert failed.code() == grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(check())
    assert list(tmp_path.iterdir()) == []


def test_server_without_a_spool_says_unimplemented(server: ServerProcess):
    with Router(server.address) as router:
        assert not router.report_outcome("r1", timeout_s=PATIENT_S)
        assert router.unreported == {"unimplemented": 1}
        assert not router.fallbacks


def test_client_never_raises_and_counts_why(server: ServerProcess):
    with Router(server.address) as router:
        assert not router.report_outcome("r1", tier="middle")
        assert not router.report_outcome("r1", score="good")  # type: ignore[arg-type]
        assert not router.report_outcome("r1", no_such_field=1)  # type: ignore[call-arg]
        assert not router.report_outcome(None)  # type: ignore[arg-type]
    assert not router.report_outcome("r1")  # closed
    assert (router.unreported["invalid_argument"], sum(router.unreported.values())) == (1, 5)


def test_outcomes_are_taken_in_before_the_model_is_warm(bundle: Bundle, tmp_path: Path):
    async def check() -> None:
        async with reporting(bundle, tmp_path) as (server, _, report):
            server.service.is_warm = False
            assert await report(raw_of(), timeout=PATIENT_S) == b""

    asyncio.run(check())


def test_full_queue_pushes_back_while_route_goes_on(bundle: Bundle, tmp_path: Path):
    async def check() -> None:
        async with reporting(bundle, tmp_path, spool_max_pending=4) as (server, address, report):
            spool = server.service.outcomes.spool
            async with AsyncRouter(address, timeout_s=PATIENT_S) as router:
                with stuck_disk(tmp_path):
                    waiting = [asyncio.ensure_future(report(raw_of(), timeout=PATIENT_S)) for _ in range(4)]
                    await until(lambda: len(spool._waiting.records) + len(spool._writing.records) == 4)
                    failed = await failure_of(report(raw_of(), timeout=PATIENT_S))
                    assert failed.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                    assert int(dict(failed.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1
                    assert (await router.route(text="hello")).reason == "MODEL"
                    assert not any(call.done() for call in waiting)
                assert await asyncio.gather(*waiting) == [b""] * 4
            assert len(outcomes_of(tmp_path)) == 4

    asyncio.run(check())


@pytest.mark.parametrize("gives_up", [lambda call: call.cancel(), lambda _: None], ids=["cancelled", "deadline"])
def test_caller_that_gives_up_harms_no_other_of_its_group(bundle: Bundle, tmp_path: Path, gives_up: Callable):
    async def check() -> None:
        async with reporting(bundle, tmp_path) as (server, _, report):
            spool = server.service.outcomes.spool
            with stuck_disk(tmp_path):
                first = report(raw_of(request_id="first"), timeout=PATIENT_S)
                await until(lambda: spool._writing.records)
                leaving = report(raw_of(request_id="leaving"), timeout=3)
                staying = [report(raw_of(request_id=f"{n}"), timeout=PATIENT_S) for n in range(3)]
                await until(lambda: len(spool._waiting.records) == 4)
                gives_up(leaving)
                with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
                    await leaving
            assert await asyncio.wait_for(asyncio.gather(first, *staying), PATIENT_S) == [b""] * 4
            ids = [outcome.request_id for outcome in outcomes_of(tmp_path)]
            assert (ids[0], sorted(ids[1:])) == ("first", ["0", "1", "2", "leaving"])
            assert spool.counts.syncs == 2

    asyncio.run(check())


def test_spent_deadline_never_reaches_the_spool(tmp_path: Path):
    async def check() -> None:
        intake = OutcomeIntake(ServerSettings(spool=tmp_path))
        with pytest.raises(Exception, match="deadline") as failed:
            await intake.take_in(raw_of(), time.monotonic() - 0.001)
        assert failed.value.code == "DEADLINE_EXCEEDED"
        intake.close()

    asyncio.run(check())
    assert list(tmp_path.iterdir()) == []


def test_large_group_is_answered_in_many_turns_of_the_event_loop(tmp_path: Path):
    async def check() -> int:
        intake = OutcomeIntake(ServerSettings(spool=tmp_path))
        with stuck_disk(tmp_path):
            calls = [asyncio.ensure_future(intake.take_in(raw_of(), None)) for _ in range(200)]
            await until(lambda: len(intake.spool._waiting.records) + len(intake.spool._writing.records) == 200)
        answered = [0]
        while answered[-1] < len(calls):
            await asyncio.sleep(0)
            answered.append(sum(call.done() for call in calls))
        intake.close()
        return max(after - before for before, after in itertools.pairwise(answered))

    assert asyncio.run(check()) <= 16  # eight a turn; two groups may meet in one


@pytest.mark.parametrize(
    "settings",
    [
        {"spool_max_file_bytes": 1},
        {"spool_max_file_bytes": 2 << 30},
        {"spool_max_age_s": 0.0},
        {"spool_max_age_s": float("nan")},
        {"spool_max_pending": 0},
    ],
)
def test_impossible_limit_of_the_spool_is_refused_by_name(settings: dict):
    with pytest.raises(SettingsRefused, match=next(iter(settings))):
        ServerSettings(**settings)


def test_folder_that_cannot_be_used_is_refused_by_name(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsRefused, match=r"spool: can't use .*file"):
        OutcomeIntake(ServerSettings(spool=tmp_path / "file"))
