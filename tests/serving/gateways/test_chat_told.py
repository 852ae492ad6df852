"""What ledger and metrics are told of chat completions that end badly, early or late: every call that was made."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.builders import tiny_bundle
from tests.chat_calls import ALWAYS_STRONG, STRONG, WEAK, asking, script, sdk
from tests.checkers import with_second_look
from tests.gates import until
from tests.http_calls import call, http_server
from tests.raw_upstream import Answers, RawUpstream, Writes, answer, delta, events, raw_upstream
from tests.stub_upstream import SURE, UNSURE, Said, stub_upstream
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.spool.framing import RecordKind
from turnout.serving.spool.outcome import Outcome, decode_outcome
from turnout.serving.spool.reader import SpoolRecord, read_spool

Use = Callable[[RawUpstream, str], Awaitable[Any]]
COUNTED = re.compile(r'turnout_upstream_calls_total\{[^}]*result="(\w+)"[^}]*tier="(\w+)"[^}]*\} (\d+)')
USAGE = {"prompt_tokens": 3, "completion_tokens": 12}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(tiny_bundle(tmp_path_factory.mktemp("told") / "tiny", plus_is_unfamiliar=True))


@pytest.fixture(scope="module")
def bundle(plain: Bundle) -> Bundle:
    return with_second_look(plain)


def outcomes(spool: Path) -> list[Outcome]:
    records = [one for one in read_spool(spool) if isinstance(one, SpoolRecord) and one.kind == RecordKind.OUTCOME]
    return [decode_outcome(one.payload) for one in records]


def told(spool: Path) -> list[tuple[str, str, int | None]]:
    return [(one.model, one.error_code, one.completion_tokens) for one in outcomes(spool)]


async def counted(http: str) -> dict[tuple[str, str], int]:
    text = (await call(http, "/metrics")).body.decode()
    return {(tier, result): int(n) for result, tier, n in COUNTED.findall(text)}


def using(bundle: Bundle, spool: Path, answers: Answers, use: Use) -> Any:
    async def run() -> Any:
        async with raw_upstream(bundle, answers, spool=spool) as (upstream, http):
            return await use(upstream, http)

    return asyncio.run(run())


def tried(strong: Callable[[], bytes | Writes]) -> Answers:
    return lambda body: answer(body, Said(logprob=UNSURE)) if body["model"] == WEAK else strong()


async def hanging() -> Writes:
    await asyncio.sleep(3600)
    yield b""


async def begun_and_hanging() -> Writes:
    yield HEAD + b'data: {"choices": [{"index": 0, "delta": {"content": "Par"}}]}\n\n'
    await asyncio.sleep(3600)


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_a_try_is_told_where_the_strong_model_gives_no_reply(bundle: Bundle, tmp_path: Path, *, is_stream: bool):
    async def use(_: RawUpstream, http: str) -> Any:
        got = await call(http, "/v1/chat/completions", asking(stream=is_stream))
        await until(lambda: len(outcomes(tmp_path)) == 2)
        return got.status, await counted(http)

    assert using(bundle, tmp_path, tried(lambda: b""), use) == (
        502,
        {("weak", "ok"): 1, ("strong", "unreachable"): 1},
    )
    assert told(tmp_path) == [(WEAK, "", 10), (STRONG, "unreachable", None)]


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_a_caller_that_leaves_loses_nothing_of_the_ledger(bundle: Bundle, tmp_path: Path, *, is_stream: bool):
    async def use(upstream: RawUpstream, http: str) -> Any:
        leaving = asyncio.ensure_future(call(http, "/v1/chat/completions", asking(stream=is_stream)))
        await until(lambda: upstream.models == [WEAK, STRONG])
        leaving.cancel()
        await until(lambda: len(outcomes(tmp_path)) == 2)
        return await counted(http)

    assert using(bundle, tmp_path, tried(hanging), use) == {("weak", "ok"): 1, ("strong", "left"): 1}
    assert told(tmp_path) == [(WEAK, "", 10), (STRONG, "left", None)]


def test_a_caller_that_leaves_while_the_weak_model_answers_is_told(bundle: Bundle, tmp_path: Path):
    async def use(upstream: RawUpstream, http: str) -> Any:
        leaving = asyncio.ensure_future(call(http, "/v1/chat/completions", asking()))
        await until(lambda: upstream.models == [WEAK])
        leaving.cancel()
        await until(lambda: len(outcomes(tmp_path)) == 1)
        return await counted(http)

    assert using(bundle, tmp_path, lambda _: hanging(), use) == {("weak", "left"): 1}
    assert told(tmp_path) == [(WEAK, "left", None)]


def test_a_stream_that_its_caller_leaves_is_told(plain: Bundle, tmp_path: Path):
    async def use(_: RawUpstream, http: str) -> Any:
        async with aiohttp.ClientSession() as session:
            body = asking(ALWAYS_STRONG, stream=True)
            async with session.post(f"http://{http}/v1/chat/completions", json=body) as reply:
                assert (await reply.content.readany()).startswith(b"data:")
        await until(lambda: len(outcomes(tmp_path)) == 1)
        return await counted(http)

    assert using(plain, tmp_path, lambda _: begun_and_hanging(), use) == {("strong", "left"): 1}
    assert told(tmp_path) == [(STRONG, "left", None)]


def test_a_stream_that_breaks_off_is_told(plain: Bundle, tmp_path: Path):
    async def use(_: RawUpstream, http: str) -> Any:
        got = await call(http, "/v1/chat/completions", asking(ALWAYS_STRONG, stream=True))
        await until(lambda: len(outcomes(tmp_path)) == 1)
        return got.status, b"broke off" in got.body, await counted(http)

    def cut(_: Any) -> bytes:
        return events(delta("Par"), length=10_000).removesuffix(b"data: [DONE]\n\n")

    assert using(plain, tmp_path, cut, use) == (200, True, {("strong", "broke_off"): 1})
    assert told(tmp_path) == [(STRONG, "broke_off", None)]


def test_what_breaks_after_the_last_event_is_a_whole_stream(plain: Bundle, tmp_path: Path):
    async def use(_: RawUpstream, http: str) -> Any:
        got = await call(http, "/v1/chat/completions", asking(ALWAYS_STRONG, stream=True))
        await until(lambda: len(outcomes(tmp_path)) == 1)
        return b"broke off" in got.body, await counted(http)

    cut = events(delta("Par"), {"choices": [], "usage": USAGE}, length=10_000)
    assert using(plain, tmp_path, lambda _: cut, use) == (False, {("strong", "ok"): 1})
    assert told(tmp_path) == [(STRONG, "", 12)]


@pytest.mark.parametrize("text", ["hello", ALWAYS_STRONG], ids=["weak", "strong"])
def test_tokens_of_streamed_responses_are_told(plain: Bundle, tmp_path: Path, text: str):
    async def run() -> None:
        with stub_upstream(script(Said(logprob=SURE))) as stub:
            async with http_server(plain, upstream=stub.url, spool=tmp_path) as (_, _, http), sdk(http) as client:
                stream = await client.responses.create(model="auto", input=text, stream=True)
                assert [event async for event in stream][-1].response.usage.output_tokens in (10, 30)
                await until(lambda: len(outcomes(tmp_path)) == 1)

    asyncio.run(run())
    (one,) = outcomes(tmp_path)
    assert (one.prompt_tokens, one.completion_tokens, one.cached_tokens) == (100, 10 if text == "hello" else 30, 4)


@pytest.mark.slow
def test_a_stream_is_told_once_it_has_ended_however_long_it_lasts(plain: Bundle, tmp_path: Path):
    async def lasting() -> Writes:
        yield HEAD
        for _ in range(15):  # beyond the deadline, and all that a report waits for
            yield b'data: {"choices": [{"index": 0, "delta": {"content": "x"}}]}\n\n'
            await asyncio.sleep(1)
        yield b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 12}}\n\ndata: [DONE]\n\n'

    async def use(_: RawUpstream, http: str) -> Any:
        late = {"connect-timeout-ms": "8000"}
        got = await call(http, "/v1/chat/completions", asking(ALWAYS_STRONG, stream=True), headers=late)
        await until(lambda: len(outcomes(tmp_path)) == 1)
        return got.status

    assert using(plain, tmp_path, lambda _: lasting(), use) == 200
    assert told(tmp_path) == [(STRONG, "", 12)]
