"""Chat completions in front of an upstream whose replies are broken on the wire: the strong model answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.builders import tiny_bundle
from tests.chat_calls import ALWAYS_STRONG, STRONG, WEAK, asking
from tests.checkers import with_second_look
from tests.http_calls import Reply, call
from tests.raw_upstream import Answers, RawUpstream, Writes, answer, delta, events, raw_upstream, reply
from turnout.serving.bundles.bundle import Bundle, load_bundle


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(tiny_bundle(tmp_path_factory.mktemp("broken") / "tiny", plus_is_unfamiliar=True))


@pytest.fixture(scope="module")
def bundle(plain: Bundle) -> Bundle:
    return with_second_look(plain)


def strong_says(body: Any) -> bytes:
    return events(delta("Paris, I am certain.")) if body.get("stream") else answer(body)


def of_weak(said: Any) -> Answers:
    """Return answers of which the weak model's are these, made anew for each call where they are a function."""
    return lambda body: (said() if callable(said) else said) if body["model"] == WEAK else strong_says(body)


def asked(bundle: Bundle, answers: Answers, body: Any, path: str = "chat/completions", **options: Any) -> Any:
    """Return the reply to one call, and the upstream's state."""

    async def run() -> tuple[Reply, RawUpstream]:
        async with raw_upstream(bundle, answers) as (upstream, http):
            return await call(http, f"/v1/{path}", body, **options), upstream

    return asyncio.run(run())


async def dripping() -> Writes:
    yield b"HTTP/1.1 500 Made Up\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n"
    while True:
        yield b"x"
        await asyncio.sleep(0.1)


async def endless() -> Writes:
    yield b"HTTP/1.1 500 Made Up\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    while True:
        yield b"x" * (1 << 20)


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("weak", "result"),
    [
        (reply(500, b"oops", length=100), "unreachable"),
        (reply(500, b"oops", more={"content-encoding": "gzip"}), "unreachable"),
        (dripping, "timeout"),
        (endless, "too_large"),
    ],
    ids=["cut", "not gzip", "dripping", "endless"],
)
def test_an_error_whose_body_never_comes_leads_to_the_strong_model(
    plain: Bundle, weak: Any, result: str, *, is_stream: bool
):
    late = {"connect-timeout-ms": "8000"} if weak is dripping else {}
    got, upstream = asked(plain, of_weak(weak), asking(stream=is_stream), headers=late)
    assert (got.status, upstream.models) == (200, [WEAK, STRONG])
    assert b"I am certain" in got.body
    assert got.headers["x-turnout-calls"] == f"{WEAK}={result},{STRONG}=ok"


FAILED = {"error": {"message": "overloaded"}}


@pytest.mark.parametrize("looks", [1, 2], ids=["taken", "tried"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("body", [FAILED, {"choices": []}, {"choices": [None]}], ids=range(3))
def test_success_without_an_answer_leads_to_the_strong_model(
    plain: Bundle, bundle: Bundle, body: Any, looks: int, *, is_stream: bool
):
    got, upstream = asked(bundle if looks == 2 else plain, of_weak(reply(200, body)), asking(stream=is_stream))
    assert (got.status, upstream.models) == (200, [WEAK, STRONG])
    assert b"I am certain" in got.body
    assert got.headers["x-turnout-calls"] == f"{WEAK}=no_answer,{STRONG}=ok"


@pytest.mark.parametrize("looks", [1, 2], ids=["taken", "tried"])
@pytest.mark.parametrize("body", [{"status": "failed", "output": []}, {"status": "failed", "output": [{}]}, FAILED])
def test_a_response_that_failed_leads_to_the_strong_model(plain: Bundle, bundle: Bundle, body: Any, looks: int):
    good = {"status": "completed", "output": [{"type": "message"}]}

    def answers(asks: Any) -> bytes:
        return reply(200, body if asks["model"] == WEAK else good)

    got, upstream = asked(bundle if looks == 2 else plain, answers, {"model": "auto", "input": "hello"}, "responses")
    assert (got.json(), upstream.models) == (good, [WEAK, STRONG])


def test_a_response_in_the_background_is_answered_later(plain: Bundle):
    queued = {"id": "resp_1", "status": "queued", "output": []}
    body = {"model": "auto", "input": "hello", "background": True}
    got, upstream = asked(plain, of_weak(reply(200, queued)), body, "responses")
    assert (got.json(), upstream.models) == (queued, [WEAK])


@pytest.mark.parametrize("kind", ["text/html", "text/plain"])
def test_what_is_no_stream_of_events_leads_to_the_strong_model(plain: Bundle, kind: str):
    got, upstream = asked(plain, of_weak(reply(200, b"<html>", kind)), asking(stream=True))
    assert (b"I am certain" in got.body, upstream.models) == (True, [WEAK, STRONG])
    assert got.headers["x-turnout-calls"] == f"{WEAK}=not_json,{STRONG}=ok"


def test_a_stream_of_the_strong_model_passes_under_another_name(plain: Bundle):
    got, _ = asked(plain, lambda _: events(delta("Paris."), kind="text/plain"), asking(ALWAYS_STRONG, stream=True))
    assert (got.status, b"Paris." in got.body) == (200, True)


@pytest.mark.parametrize("looks", [1, 2], ids=["taken", "tried"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", [400, 401, 403, 413, 422])
def test_no_error_of_the_weak_model_is_the_callers_to_see(
    plain: Bundle, bundle: Bundle, status: int, looks: int, *, is_stream: bool
):
    got, upstream = asked(bundle if looks == 2 else plain, of_weak(reply(status, FAILED)), asking(stream=is_stream))
    assert (got.status, b"I am certain" in got.body, upstream.models[-1]) == (200, True, STRONG)


def test_a_fault_of_the_callers_own_is_told_by_the_strong_model(plain: Bundle):
    got, upstream = asked(plain, lambda _: reply(400, {"error": {"message": "no such tool"}}), asking())
    assert (got.status, got.json()["error"]["message"], upstream.models) == (400, "no such tool", [WEAK, STRONG])


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_headers_of_a_caller_pass_as_the_bytes_that_came(plain: Bundle, *, is_stream: bool):
    named = {"user-agent": "Grüße/1", "openai-project": "日本", "x-request-id": "Grüße"}
    got, upstream = asked(plain, strong_says, asking(stream=is_stream), headers=named)
    assert (got.status, upstream.models) == (200, [WEAK])
    head = upstream.heads[0].lower()
    assert "user-agent: grüße/1\r\n".encode() in head
    assert "openai-project: 日本\r\n".encode() in head


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_a_header_that_no_reply_can_hold_is_left_out(plain: Bundle, *, is_stream: bool):
    def answers(body: Any) -> bytes:
        told = "x-ratelimit-remaining: 7\r\nopenai-project: 日本\r\nopenai-organization: Grüße".encode()
        return strong_says(body).replace(b"connection: close", b"connection: close\r\n" + told, 1)

    got, _ = asked(plain, answers, asking(stream=is_stream))
    assert (got.status, got.headers["x-ratelimit-remaining"], "openai-project" in got.headers) == (200, "7", False)
