"""Chat completions in front of an upstream whose replies are broken on the wire: the strong model answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.builders import tiny_bundle
from tests.chat_calls import STRONG, WEAK, asking
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
