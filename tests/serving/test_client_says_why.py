"""A client that always has an answer says aloud what is wrong: once for each cause, in the server's words, counted."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.certificates import Authority
from tests.running import environment, server_in_loop, server_process
from turnout.serving.access.tokens import new_token_lines
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.client import AsyncRouter, RouteItem, Router, failures

SECRET = "secret-of-the-prompt"
AUTHORITY = Authority("authority")
NOBODY = "127.0.0.1:1"


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "turnout.client"]


async def ask(router: Any, how: str, **fields: Any) -> Any:
    """Ask by one of the methods of either client; gives what came of it."""
    if how == "route_batch":
        asked = router.route_batch([RouteItem(**fields)])
    elif how == "report_outcome":
        asked = router.report_outcome("r-1", tier="weak")
    else:
        asked = router.route(**fields)
    return await asked if asyncio.iscoroutine(asked) else asked


async def asked_of_nobody(kind: Callable[..., Any], how: str, times: int, **fields: Any) -> Any:
    router = kind(NOBODY, timeout_s=60)
    for _ in range(times):
        await ask(router, how, **{"text": SECRET} | fields)
    await router.close() if kind is AsyncRouter else router.close()
    return router


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Router, AsyncRouter])
@pytest.mark.parametrize("how", ["route", "route_batch", "report_outcome"])
def test_dead_server_is_said_once_and_counted_each_time(
    kind: Callable[..., Any], how: str, caplog: pytest.LogCaptureFixture
):
    router = asyncio.run(asked_of_nobody(kind, how, 5))
    (line,) = said(caplog)
    assert NOBODY in line
    assert "unavailable" in line
    assert "refused" in line.lower()  # gRPC's own words
    assert caplog.records[-1].levelno == logging.WARNING
    assert router.causes.total() == 5
    assert all(cause.startswith("unavailable: ") for cause in router.causes)
    assert SECRET not in caplog.text + str(router.causes)


@pytest.mark.parametrize("kind", [Router, AsyncRouter])
@pytest.mark.parametrize(
    ("options", "fields", "why", "words"),
    [
        ({}, {"policy": "no_such"}, "not_found", "policy"),
        ({}, {"bundle": "no_such"}, "not_found", "bundle"),
        ({}, {"text": ""}, "invalid_argument", "text"),
        ({}, {"text": "7 is NaN"}, "internal", "incident"),
        ({}, {"user": "me"}, "client_error", "route has no argument user"),
        ({}, {"text": None}, "invalid_argument", "exactly one of"),
        ({}, {"text": 7}, "client_error", "AttributeError"),
        ({"token": "wrong\n"}, {}, "client_error", "token"),
        ({"token": "caf\u00e9"}, {}, "client_error", "token"),
        ({"policy": "no_such"}, {}, "not_found", "policy"),
    ],
    ids=range(10),
)
def test_each_mistake_is_said_with_what_is_wrong(
    bundle: Bundle,
    kind: Callable[..., Any],
    options: dict[str, Any],
    fields: dict[str, Any],
    why: str,
    words: str,
    caplog: pytest.LogCaptureFixture,
):
    async def check() -> None:
        async with server_in_loop(bundle) as (_, address):
            router = kind(address, timeout_s=60, strong_model="the-strong-one", **options)
            for _ in range(3):
                asking = ask(router, "route", **{"text": SECRET} | fields)
                routed = await (asking if kind is AsyncRouter else asyncio.to_thread(asyncio.run, asking))
                assert (routed.model, routed.fallback_reason) == ("the-strong-one", why)
            (line,) = said(caplog)
            assert words in line
            assert router.fallbacks == {why: 3}
            assert router.causes.total() == 3
            assert len(router.causes) == 1  # the id of an incident makes no cause of its own
            assert SECRET not in caplog.text + str(router.causes)

    asyncio.run(check())


def test_missing_and_wrong_tokens_are_said_in_the_servers_words(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    token, lines = new_token_lines("gateway")
    (tmp_path / "tokens.toml").write_text(lines)

    async def check() -> None:
        async with server_in_loop(bundle, tokens=tmp_path / "tokens.toml") as (_, address):
            for shown in ("", "wrong", token):
                async with AsyncRouter(address, timeout_s=60, token=shown) as router:
                    for _ in range(2):
                        await router.route(text="hello")
            assert [("expected the metadata" in line, "unknown token" in line) for line in said(caplog)] == [
                (True, False),
                (False, True),
            ]
            assert token not in caplog.text

    asyncio.run(check())


@pytest.mark.parametrize(
    ("server_tls", "credentials"),
    [
        (True, None),
        (True, grpc.ssl_channel_credentials(Authority("stranger").pem)),
        (False, grpc.ssl_channel_credentials(AUTHORITY.pem)),
        (True, grpc.ssl_channel_credentials(b"no certificate")),
    ],
    ids=["plain text to TLS", "stranger's authority", "TLS to plain text", "no certificate"],
)
def test_tls_that_does_not_fit_is_said(
    bundle: Bundle, tmp_path: Path, server_tls: bool, credentials: Any, caplog: pytest.LogCaptureFixture
):
    cert, key = AUTHORITY.leaf("server").write(tmp_path)

    async def check() -> None:
        settings = {"tls_cert": cert, "tls_key": key} if server_tls else {}
        async with (
            server_in_loop(bundle, **settings) as (_, address),
            AsyncRouter(address, timeout_s=60, credentials=credentials) as router,
        ):
            assert (await router.route(text=SECRET)).fallback_reason
            (line,) = said(caplog)
            assert address in line
            assert len(line) > len(address) + 60  # there is a reason in it
            assert SECRET not in line

    asyncio.run(check())


def test_cause_that_goes_on_is_said_again_with_how_often(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(failures, "REPEAT_S", 0.0)
    asyncio.run(asked_of_nobody(AsyncRouter, "route", 2))
    assert len(said(caplog)) == 2
    caplog.clear()
    told = failures.Failures()
    monkeypatch.setattr(failures, "REPEAT_S", 1e6)
    for _ in range(9):
        told.note("unavailable", "nobody there", "no route")
    monkeypatch.setattr(failures, "REPEAT_S", 0.0)
    told.note("unavailable", "nobody there", "no route")
    assert [("9 times" in line) for line in said(caplog)] == [False, True]


def test_number_of_causes_is_bounded(caplog: pytest.LogCaptureFixture):
    told = failures.Failures()
    for number in range(1000):
        told.note("unknown", "x" * (number + 1), "no route")
    assert len(told.causes) <= failures.MAX_CAUSES + 1
    assert told.causes.total() == 1000
    assert len(said(caplog)) <= failures.MAX_CAUSES + 1
    assert max(map(len, said(caplog))) < 400


def test_async_client_works_in_one_loop_after_the_other_and_made_outside_of_any(bundle_folder: Path, tmp_path: Path):
    with server_process(bundle_folder, tmp_path / "log") as server:
        router = AsyncRouter(server.address, timeout_s=60)

        async def call() -> list[str | None]:
            replies = await asyncio.gather(*(router.route(text="hello") for _ in range(10)))
            batch = await router.route_batch([RouteItem(text="hello")])
            return [reply.fallback_reason for reply in (*replies, *batch)]

        for _ in range(3):
            assert asyncio.run(call()) == [None] * 11

        async def in_threads() -> list[list[str | None]]:
            return await asyncio.gather(*(asyncio.to_thread(asyncio.run, call()) for _ in range(3)), call())

        assert asyncio.run(in_threads()) == [[None] * 11] * 4
        asyncio.run(router.close())
        assert asyncio.run(call()) == ["client_error"] * 11


def route_command(server: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "turnout.serving.cli.app", "route", "hello", "--server", server, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment())


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_command_that_got_no_route_ends_with_one_and_says_why(server: Any, as_json: tuple[str, ...]):
    good = route_command(server.address, *as_json)
    assert (good.returncode, good.stderr) == (0, "")
    for address, options, words in (
        (NOBODY, (), "unavailable"),
        (server.address, ("--policy", "no_such"), "policy"),
    ):
        failed = route_command(address, *options, *as_json)
        assert failed.returncode == 1
        assert words in failed.stderr
        assert "gpt-4o" in failed.stdout
