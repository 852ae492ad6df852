"""Decisions over HTTP: those of Route, with its statuses, its queue, its deadlines."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import gzip
import json
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format

from tests.builders import digest_of, tiny_bundle, tiny_manifest, write_manifest
from tests.gates import BLOCKER, GatedModel, until
from tests.http_calls import HttpProcess, Reply, call, http_server, systemone
from tests.running import lifecycle_of, route
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.client import AsyncRouter
from turnout.serving.pb import router_pb2 as pb

CANARY = "canary-in-the-mine"
BODY = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is the sky blue?"}]}
TOOL = {"type": "function", "function": {"name": "lookup", "parameters": {"type": "object"}}}


def gated(bundle: Bundle) -> tuple[Bundle, GatedModel]:
    model = GatedModel(bundle.model)
    return dataclasses.replace(bundle, model=model), model


def without_timings(reply: Any) -> Any:
    reply.ClearField("timings")
    return reply


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"text": "Why?"}, {"text": "Why?"}),
        (
            {"text": "Why?", "threshold": 0.25, "request_id": "r-1"},
            {"text": "Why?", "threshold": 0.25, "request_id": "r-1"},
        ),
        ({"text": "word " * 60, "policy": "max_worse=0.05"}, {"text": "word " * 60, "policy": "max_worse=0.05"}),
        ({"openai_body": BODY}, {"openai_body": json.dumps(BODY).encode()}),
        (
            {"openai_body": base64.b64encode(json.dumps(BODY).encode()).decode()},
            {"openai_body": json.dumps(BODY).encode()},
        ),
        (
            {"messages": {"messages": [{"role": "user", "text": "hello"}]}, "explain": True},
            {"messages": pb.Messages(messages=[pb.Message(role="user", text="hello")]), "explain": True},
        ),
        ({"text": "x" * 400_000}, {"text": "x" * 400_000}),
        (
            {"openai_body": BODY | {"tools": [TOOL]}, "sessionId": "s"},
            {"openai_body": json.dumps(BODY | {"tools": [TOOL]}).encode(), "session_id": "s"},
        ),
    ],
    ids=["text", "threshold", "policy", "openai body", "base64", "explained messages", "too long", "tools"],
)
def test_route_over_http_is_route_over_grpc_to_the_bit(
    http_process: HttpProcess, body: dict[str, Any], fields: dict[str, Any]
):
    twin = http_process.call("/v1/route", body)
    assert twin.status == 200
    parsed = json_format.ParseDict(twin.json(), pb.RouteResponse())
    assert parsed.timings.model_ns > 0
    assert without_timings(parsed) == without_timings(route(http_process.grpc, **fields))


@pytest.mark.parametrize(
    ("status", "code", "body"),
    [
        (400, "invalid_argument", b""),
        (400, "invalid_argument", b"not JSON"),
        (400, "invalid_argument", b"[1]"),
        (400, "invalid_argument", b"\xff"),
        (400, "invalid_argument", b"[" * 100_000),
        (400, "invalid_argument", {}),
        (400, "invalid_argument", {"text": "  "}),
        (400, "invalid_argument", {"text": 1}),
        (400, "invalid_argument", {"prompt": "hello"}),
        (400, "invalid_argument", {"text": "hello", "openai_body": BODY}),
        (400, "invalid_argument", {"openai_body": {"messages": "hello"}}),
        (400, "invalid_argument", {"text": "hello", "threshold": "NaN"}),
        (400, "invalid_argument", b'{"text": "\\ud800"}'),
        (404, "not_found", {"text": "hello", "policy": "none such"}),
        (404, "not_found", {"text": "hello", "bundle": "none-such"}),
        (500, "internal", {"text": "7"}),
    ],
    ids=range(16),
)
def test_failures_have_the_status_of_their_code(http_process: HttpProcess, status: int, code: str, body: Any):
    reply = http_process.call("/v1/route", body)
    assert (reply.status, reply.json()["code"]) == (status, code)
    assert reply.json()["message"]


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"text": "hello", "policy": "max_worse=0.05", "threshold": 0.5}, "policy, threshold"),
        ({"text": "hello", "messages": {"messages": [{"role": "user", "text": "hello"}]}}, "text, messages"),
        ({"text": "hello", "openaiBody": "e30="}, "text, openai_body"),
        ({"text": "hello", "threshold": "much", "bundle": 7}, "bundle, threshold"),
    ],
    ids=range(4),
)
def test_fields_that_do_not_go_together_or_do_not_fit_are_named(http_process: HttpProcess, body: Any, names: str):
    reply = http_process.call("/v1/route", body)
    assert (reply.status, reply.json()["code"]) == (400, "invalid_argument")
    assert names in reply.json()["message"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", None])
def test_compressed_body_is_refused_for_what_it_is(http_process: HttpProcess, encoding: str | None):
    headers = {} if encoding is None else {"content-encoding": encoding}
    reply = http_process.call("/v1/route", gzip.compress(json.dumps({"text": "hello"}).encode()), headers=headers)
    assert (reply.status, reply.json()["code"]) == (400, "invalid_argument")
    assert "compressed" in reply.json()["message"]


async def endless(n_bytes: int) -> Any:
    for _ in range(n_bytes // 1000):
        yield b" " * 1000


@pytest.mark.parametrize("body", [b" " * 200_000, None], ids=["with its length", "in chunks"])
def test_body_over_the_limit_is_413(bundle: Bundle, body: bytes | None):
    async def check() -> None:
        async with http_server(bundle, max_request_bytes=100_000) as (_, _, http):
            reply = await call(http, "/v1/route", endless(200_000) if body is None else body)
            assert (reply.status, reply.json()["code"]) == (413, "invalid_argument")

    asyncio.run(check())


def test_full_queue_is_429_with_the_time_of_the_one_retry(bundle: Bundle):
    blocked, model = gated(bundle)

    async def check() -> None:
        async with http_server(blocked, max_queue_items=1) as (server, _, http):
            first = asyncio.create_task(call(http, "/v1/route", {"text": BLOCKER}))
            await until(model.at_gate.is_set)
            refused = await call(http, "/v1/route", {"text": "hello"})
            assert refused.status == 429
            assert refused.json()["retry_pushback_ms"] >= 1
            assert int(refused.headers["retry-after"]) >= 1
            model.gate.set()
            assert (await first).status == 200
            assert server.service.answering.admission.items == 0

    asyncio.run(check())


def test_expired_deadline_is_504_and_never_reaches_the_model(bundle: Bundle):
    blocked, model = gated(bundle)

    async def check() -> None:
        async with http_server(blocked) as (_, _, http):
            first = asyncio.create_task(call(http, "/v1/route", {"text": BLOCKER}))
            await until(model.at_gate.is_set)
            late = await call(http, "/v1/route", {"text": "hello"}, headers={"Connect-Timeout-Ms": "50"})
            assert (late.status, late.json()["code"]) == (504, "deadline_exceeded")
            model.gate.set()
            assert (await first).status == 200
            assert "hello" not in model.texts

    asyncio.run(check())


@pytest.mark.parametrize("deadline", ["0", "-1", "soon", "1e3", "99999999999"])
def test_deadline_that_is_no_number_of_milliseconds_is_refused(http_process: HttpProcess, deadline: str):
    reply = http_process.call("/v1/route", {"text": "hello"}, headers={"Connect-Timeout-Ms": deadline})
    assert (reply.status, reply.json()["code"]) == (400, "invalid_argument")


def test_caller_that_hangs_up_takes_its_request_out_of_the_queue(bundle: Bundle):
    blocked, model = gated(bundle)

    async def check() -> None:
        async with http_server(blocked) as (server, _, http):
            admission = server.service.answering.admission
            first = asyncio.create_task(call(http, "/v1/route", {"text": BLOCKER}))
            await until(model.at_gate.is_set)
            waiting = asyncio.create_task(call(http, "/v1/route", {"text": "hello"}))
            await until(lambda: admission.items == 2)
            waiting.cancel()
            await until(lambda: admission.items == 1)
            model.gate.set()
            assert (await first).status == 200
            assert "hello" not in model.texts
            await until(lambda: server.service.n_calls == 0)

    asyncio.run(check())


def test_requests_are_decisions_plus_failures_in_the_metrics(bundle: Bundle):
    async def check() -> None:
        async with http_server(bundle) as (_, _, http):
            for body in ({"text": "hello"}, {"text": "7"}, {}, {"text": "there"}):
                await call(http, "/v1/route", body)
            await call(http, "/v1/systemone", systemone("hello"))
            shown = (await call(http, "/metrics")).body.decode().splitlines()
            counted = {
                name: sum(float(line.split()[-1]) for line in shown if line.startswith(f"turnout_{name}{{"))
                for name in ("decisions_total", "failures_total", "rpcs_total")
            }
            assert counted == {"decisions_total": 3, "failures_total": 2, "rpcs_total": 5}

    asyncio.run(check())


def test_ready_follows_warm_up_and_drain_and_healthy_stays(bundle: Bundle):
    async def statuses(http: str) -> tuple[int, int]:
        return (await call(http, "/healthz")).status, (await call(http, "/readyz")).status

    async def check() -> None:
        async with http_server(bundle, lame_duck_s=60) as (server, _, http):
            assert await statuses(http) == (200, 200)
            draining = asyncio.create_task(server.drain())
            await asyncio.sleep(0.05)
            assert await statuses(http) == (200, 503)
            assert (await call(http, "/v1/route", {"text": "hello"})).status == 200
            draining.cancel()
        async with http_server(bundle, lame_duck_s=0) as (server, _, http):
            await server.drain()
            refused = await call(http, "/v1/route", {"text": "hello"})
            assert (refused.status, refused.json()["code"]) == (503, "unavailable")

    asyncio.run(check())


def test_report_is_that_of_the_manifest_and_nothing_else_in_the_folder(tmp_path: Path):
    folder = tiny_bundle(tmp_path / "tiny")
    (folder / "report").mkdir()
    for name in ("index.html", "figure.svg", "unlisted.html"):
        (folder / "report" / name).write_text(f"<p>{name}</p>")
    manifest = tiny_manifest(folder)
    files = manifest.files | {
        f"report/{name}": digest_of(folder / "report" / name) for name in ("index.html", "figure.svg")
    }
    write_manifest(folder, msgspec.structs.replace(manifest, files=files))

    async def check() -> None:
        async with http_server(load_bundle(folder)) as (_, _, http):
            front = await call(http, "/report")
            assert (front.status, front.body) == (200, b"<p>index.html</p>")
            assert front.headers["content-type"].startswith("text/html")
            assert "default-src 'none'" in front.headers["content-security-policy"]
            assert (await call(http, "/report/figure.svg")).headers["content-type"] == "image/svg+xml"
            for path in (
                "unlisted.html",
                "..%2Fmanifest.json",
                "../manifest.json",
                "%2e%2e/manifest.json",
                "index.html/",
            ):
                assert (await call(http, f"/report/{path}")).status == 404, path
            assert (await call(http, "/report/?bundle=none-such")).status == 404
            (folder / "report" / "figure.svg").write_text("<p>changed</p>")
            assert (await call(http, "/report/figure.svg")).status == 404

    asyncio.run(check())


def bad_calls() -> list[tuple[str, Any]]:
    """Return calls that hold the canary wherever a caller can put text, each wrong in another way."""
    return [
        ("/v1/route", f"{CANARY}".encode()),
        ("/v1/route", {"text": f"7 {CANARY}"}),
        ("/v1/route", {CANARY: "hello"}),
        ("/v1/route", {"text": {"a": CANARY}}),
        ("/v1/route", {"text": "hello", "threshold": CANARY}),
        ("/v1/route", {"text": "hello", "policy": CANARY}),
        ("/v1/route", {"openai_body": {"messages": CANARY}}),
        ("/v1/route", {"openai_body": CANARY}),
        ("/v1/systemone", f"{CANARY}".encode()),
        ("/v1/systemone", {"state": CANARY}),
        ("/v1/systemone", {"state": CANARY, "questions": CANARY}),
        ("/v1/systemone", systemone(f"7 {CANARY}")),
        (f"/v1/{CANARY}", {"text": "hello"}),
        (f"/report/{CANARY}", None),
    ]


def test_no_text_of_a_request_reaches_an_error_or_the_log(bundle: Bundle, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, logger="turnout")
    caplog.set_level(logging.DEBUG, logger="uvicorn")

    async def check() -> list[Reply]:
        async with http_server(bundle) as (_, _, http):
            return [await call(http, path, body) for path, body in bad_calls()]

    replies = asyncio.run(check())
    assert all(reply.status >= 400 for reply in replies)
    assert not any(CANARY.encode() in reply.body for reply in replies)
    assert CANARY not in caplog.text


def test_unreadable_http_is_refused_and_the_port_goes_on(bundle: Bundle):
    async def raw(http: str, sent: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*http.split(":"))
        writer.write(sent)
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(64), 60)
        writer.close()
        return answer

    async def check() -> None:
        async with http_server(bundle) as (_, _, http):
            assert b"400" in await raw(http, b"\x16\x03\x01 this is no HTTP\r\n\r\n")
            assert b"400" in await raw(http, b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n")
            assert (await call(http, "/v1/route")).status == 405
            assert (await call(http, "/v1/route", {"text": "hello"})).status == 200

    asyncio.run(check())


def test_caller_that_leaves_amid_its_body_is_no_incident(bundle: Bundle, caplog: pytest.LogCaptureFixture):
    async def check() -> None:
        async with http_server(bundle) as (server, _, http):
            _, writer = await asyncio.open_connection(*http.split(":"))
            writer.write(b"POST /v1/route HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.close()
            await asyncio.sleep(0.05)
            assert (await call(http, "/v1/route", {"text": "hello"})).status == 200
            assert server.service.n_calls == 0

    asyncio.run(check())
    assert [record.name for record in caplog.records if record.name != "turnout.lifecycle"] == []


def test_both_ports_share_one_queue(bundle: Bundle):
    blocked, model = gated(bundle)

    async def check() -> None:
        async with http_server(lifecycle_of(blocked), max_queue_items=1) as (_, address, http):
            first = asyncio.create_task(call(http, "/v1/route", {"text": BLOCKER}))
            await until(model.at_gate.is_set)
            async with AsyncRouter(address, timeout_s=60) as router:
                assert (await router.route(text="hello")).fallback_reason == "resource_exhausted"
            model.gate.set()
            assert (await first).status == 200

    asyncio.run(check())
