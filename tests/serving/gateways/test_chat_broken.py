"""Chat completions in front of an upstream whose replies are broken on the wire: the strong model answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.builders import tiny_bundle
from tests.chat_calls import ALWAYS_STRONG, STRONG, WEAK, asking
from tests.checkers import with_second_look
from tests.http_calls import Reply, call
from tests.raw_upstream import Answers, RawUpstream, Writes, answer, delta, events, raw_upstream, reply
from tests.stub_upstream import Said, completion_of
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


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_an_accepted_answer_keeps_the_headers_of_the_upstream(bundle: Bundle, *, is_stream: bool):
    def answers(body: Any) -> bytes:
        told = b"x-request-id: req-1\r\nx-ratelimit-remaining: 7\r\nset-cookie: a=b"
        return answer(body, Said()).replace(b"connection: close", b"connection: close\r\n" + told, 1)

    got, upstream = asked(bundle, answers, asking(stream=is_stream))
    assert (got.status, upstream.models, got.headers["x-turnout-verdict"]) == (200, [WEAK], "accept")
    assert (got.headers["x-request-id"], got.headers["x-ratelimit-remaining"]) == ("req-1", "7")
    assert "set-cookie" not in got.headers
    assert got.headers["content-type"].startswith("text/event-stream" if is_stream else "application/json")


def changed(body: Any, **message: Any) -> bytes:
    """Return a sure answer whose message has these fields."""
    whole = completion_of(Said(), body)
    whole["choices"][0]["message"] |= message
    return reply(200, whole)


def chunks(got: Reply) -> list[Any]:
    lines = [line.removeprefix(b"data: ") for line in got.body.split(b"\n") if line.startswith(b"data: {")]
    return [json.loads(line) for line in lines]


def test_all_of_a_message_is_in_its_chunks(bundle: Bundle):
    fields = {"reasoning_content": "Hm.", "annotations": [{"type": "url_citation"}], "audio": {"id": "a"}}
    got, upstream = asked(bundle, lambda body: changed(body, **fields), asking(stream=True))
    assert upstream.models == [WEAK]
    first, *others = (chunk["choices"][0]["delta"] for chunk in chunks(got))
    assert first == {"role": "assistant", "content": "", **fields}
    assert "".join(delta.get("content", "") for delta in others) == "Paris."


@pytest.mark.parametrize("second", [None, "x"])
@pytest.mark.parametrize("calls", [["x"], "x", [7], {"a": 1}])
def test_what_no_chunks_can_be_made_of_leads_to_the_strong_model(bundle: Bundle, calls: Any, second: Any):
    def weak(body: Any) -> bytes:
        whole = completion_of(Said(), body)
        whole["choices"][0]["message"]["tool_calls"] = calls
        return reply(200, whole | {"choices": [*whole["choices"], *([] if second is None else [second])]})

    answers = of_weak(None)
    got, upstream = asked(
        bundle, lambda body: weak(body) if body["model"] == WEAK else answers(body), asking(stream=True)
    )
    assert (got.status, upstream.models, b"I am certain" in got.body) == (200, [WEAK, STRONG], True)
    assert got.headers["x-turnout-calls"] == f"{WEAK}=no_answer,{STRONG}=ok"


@pytest.mark.parametrize("text", ["hello", ALWAYS_STRONG], ids=["weak", "strong"])
def test_an_answer_that_comes_whole_is_streamed_to_who_wants_a_stream(plain: Bundle, text: str):
    got, upstream = asked(plain, answer, asking(text, stream=True, stream_options={"include_usage": True}))
    assert (len(upstream.models), got.headers["content-type"]) == (1, "text/event-stream; charset=utf-8")
    *said, last = chunks(got)
    assert "".join(one["choices"][0]["delta"].get("content") or "" for one in said) == "Paris, I am certain."
    assert last["usage"]["total_tokens"] == 110
