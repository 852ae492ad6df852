"""Envoy's external processor over a real socket: every sequence of messages that the filter sends for a request."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.builders import BUNDLE_ID
from tests.envoy import (
    BUFFERED,
    HttpRequest,
    buffered,
    chat,
    get,
    observed,
    pass_through,
    post,
    response_part,
    stub,
)
from tests.gates import BLOCKER, GatedModel, until
from tests.running import SERVING, health_of, lifecycle_of, server_in_loop
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.protocols.ext_proc.processor import SERVICE_NAME
from turnout.serving.server.running import RouterServer
from turnout.serving.service.service import RouterService
from turnout.serving.settings import ExtProc, ServerSettings, SettingsRefused
from turnout.serving.spool.decision import LogDecisions
from turnout.serving.wire.route import ROUTE_METHOD

OURS = ("x-turnout-model", "x-turnout-confidence", "x-turnout-reason", "x-turnout-bundle")
LONG = "word " * 60
"""Goes to the strong model of the tiny bundle."""


@contextlib.asynccontextmanager
async def processing(bundle: Bundle, **settings: Any) -> AsyncIterator[tuple[RouterService, Any]]:
    async with (
        server_in_loop(bundle, **{"ext_proc": ExtProc.REWRITE} | settings) as (server, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield server.service, channel


def passed(bundle: Bundle, request: HttpRequest, messages: Any = None, **settings: Any) -> HttpRequest:
    """Return what the upstream gets of one request."""

    async def check() -> HttpRequest:
        async with processing(bundle, **settings) as (_, channel):
            return await pass_through(channel, request, messages)

    return asyncio.run(check())


def counted(service: RouterService, cause: str) -> float:
    labels = {"cause": cause}
    return service.metrics.registry.get_sample_value("turnout_ext_proc_untouched_total", labels) or 0


@pytest.mark.parametrize(("text", "model"), [("hello", "gpt-4o-mini"), (LONG, "gpt-4o")])
def test_request_goes_where_route_sends_it(bundle: Bundle, text: str, model: str):
    async def check() -> None:
        async with processing(bundle) as (_, channel):
            got = await pass_through(channel, post(chat("gpt-4o", text, temperature=0.5)))
            asked = pb.RouteRequest(text=text).SerializeToString()
            reply = pb.RouteResponse.FromString(await channel.unary_unary(ROUTE_METHOD)(asked, timeout=60))
            assert reply.model == model
            assert json.loads(got.body) == json.loads(chat(model, text, temperature=0.5))
            assert got.headers["content-length"] == str(len(got.body))
            assert got.headers["x-turnout-model"] == model
            assert float(got.headers["x-turnout-confidence"]) == reply.confidence
            assert got.headers["x-turnout-reason"] == "MODEL"
            assert got.headers["x-turnout-bundle"] == BUNDLE_ID
            assert got.times_rerouted == 1

    asyncio.run(check())


def test_body_that_names_the_right_model_stays_as_it_is(bundle: Bundle):
    body = b'{ "messages": [{"role":"user", "content":"hello"}],  "model": "gpt-4o-mini" }'
    assert passed(bundle, post(body)).body == body


@pytest.mark.parametrize("model", ["auto", None])
def test_request_that_leaves_the_model_open_gets_one(bundle: Bundle, model: str | None):
    assert json.loads(passed(bundle, post(chat(model))).body)["model"] == "gpt-4o-mini"


def test_headers_mode_leaves_the_body(bundle: Bundle):
    sent = post(chat("gpt-4o"))
    got = passed(bundle, sent, ext_proc=ExtProc.HEADERS)
    assert (got.body, got.headers["x-turnout-model"]) == (sent.body, "gpt-4o-mini")


def test_rewriting_keeps_every_other_byte(bundle: Bundle):
    body = '{"model":"gpt-4o","seed":1e400,"messages":[{"role":"user","content":"h\\u0065llo \u00e9"}],"n":1.0}'
    got = passed(bundle, post(body.encode()))
    assert got.body.decode() == body.replace("gpt-4o", "gpt-4o-mini")


def test_chunked_request_gets_no_content_length(bundle: Bundle):
    sent = post(chat("gpt-4o"))
    del sent.headers["content-length"]
    got = passed(bundle, sent)
    assert json.loads(got.body)["model"] == "gpt-4o-mini"
    assert "content-length" not in got.headers


def test_body_without_its_headers_is_routed(bundle: Bundle):
    sent = post(chat("gpt-4o"))
    del sent.headers["content-length"]  # Envoy drops it when headers are not sent
    got = passed(bundle, sent, buffered(sent, skip_headers=True))
    assert got.headers["x-turnout-model"] == "gpt-4o-mini"


@pytest.mark.parametrize(
    "request_",
    [
        get(),
        post(b""),
        post(b"not json"),
        post(b"\x1f\x8b\x08\x00 packed"),
        post(b"[1, 2]"),
        post(json.dumps({"model": "gpt-4o", "input": 7}).encode()),
        post(json.dumps({"model": "gpt-4o", "messages": "hello"}).encode()),
        post(json.dumps({"model": "gpt-4o", "messages": []}).encode()),
        post(b'{"model": "gpt-4o", "messages": ' + b"[" * 100_000),
        post(b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "\xff"}]}'),
        post(chat(model=7)),  # type: ignore[arg-type]
        post(chat("claude-x")),
        post(chat("gpt-4o", "x" * 5000)),
    ],
    ids=range(13),
)
def test_what_is_no_chat_for_the_pair_passes_untouched(bundle: Bundle, request_: HttpRequest):
    assert passed(bundle, request_, max_request_bytes=4096) == request_


def test_untouched_requests_are_counted_by_cause(bundle: Bundle):
    async def check() -> None:
        async with processing(bundle, max_request_bytes=4096) as (service, channel):
            for body in (b"no", b"{}", chat("other"), chat("gpt-4o", "x" * 5000)):
                await pass_through(channel, post(body))
            assert [counted(service, cause) for cause in ("not_chat", "other_model", "too_large")] == [2, 1, 1]
            assert service.model_calls == 0

    asyncio.run(check())


def test_trailers_and_the_response_are_answered_and_unchanged(bundle: Bundle):
    sent = post(chat("gpt-4o"), trailers={"x-checksum": "1"})
    got = passed(bundle, sent, [*buffered(sent), *response_part()])
    assert got.headers["x-turnout-model"] == "gpt-4o-mini"
    assert got.trailers == sent.trailers


@pytest.mark.parametrize("body", [chat("gpt-4o"), b"not json", None])
def test_forged_headers_do_not_reach_the_upstream(bundle: Bundle, body: bytes | None):
    forged = dict.fromkeys(OURS, "forged")
    sent = get(**forged) if body is None else dataclasses.replace(post(body), headers=post(body).headers | forged)
    got = passed(bundle, sent)
    assert "forged" not in got.headers.values()
    assert got.times_rerouted >= 1


def test_decision_without_confidence_has_no_such_header(bundle: Bundle):
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}
    got = passed(bundle, post(json.dumps({"model": "gpt-4o-mini", "messages": [image]}).encode()))
    assert (got.headers["x-turnout-model"], got.headers["x-turnout-reason"]) == ("gpt-4o", "RULE")
    assert "x-turnout-confidence" not in got.headers


def test_headers_name_policy_tenant_session_and_task(bundle: Bundle, tmp_path: Path):
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\nname = "acme"\ntenants = ["acme"]\ntasks = ["t1"]\nroute = "strong"\n')
    named = post(chat("gpt-4o"), x_turnout_tenant="acme", x_turnout_task="t1")
    got = passed(bundle, named, rules=rules)
    assert (got.headers["x-turnout-model"], got.headers["x-turnout-reason"]) == ("gpt-4o", "RULE")
    loose = post(chat("gpt-4o", "word " * 30), x_turnout_policy="max_worse=0.05")
    strict = post(chat("gpt-4o", "word " * 30))
    models = [passed(bundle, request).headers["x-turnout-model"] for request in (loose, strict)]
    reply_models = []

    async def routes() -> None:
        async with processing(bundle) as (_, channel):
            for policy in ("max_worse=0.05", ""):
                asked = pb.RouteRequest(text="word " * 30, policy=policy).SerializeToString()
                raw = await channel.unary_unary(ROUTE_METHOD)(asked, timeout=60)
                reply_models.append(pb.RouteResponse.FromString(raw).model)

    asyncio.run(routes())
    assert models == reply_models


@pytest.mark.parametrize("text", ["7 is NaN", "hello"])
def test_failure_is_answered_with_the_strong_model(bundle: Bundle, text: str):
    sent = post(chat("auto", text), x_turnout_policy="" if "7" in text else "unknown")
    got = passed(bundle, sent)
    assert json.loads(got.body)["model"] == "gpt-4o"
    assert (got.headers["x-turnout-model"], got.headers["x-turnout-reason"]) == ("gpt-4o", "FALLBACK")
    assert "x-turnout-confidence" not in got.headers


def gated(check: Callable[[GatedModel, RouterService, Any], Awaitable[None]], bundle: Bundle, **settings: Any) -> None:
    """Run a check while a first request holds the model."""
    model = GatedModel(bundle.model)

    async def run() -> None:
        async with processing(dataclasses.replace(bundle, model=model), **settings) as (service, channel):
            raw = pb.RouteRequest(text=BLOCKER).SerializeToString()
            first = channel.unary_unary(ROUTE_METHOD)(raw, timeout=60)
            await until(model.at_gate.is_set)
            try:
                await check(model, service, channel)
            finally:
                model.gate.set()
            await first

    asyncio.run(run())


def test_full_queue_is_answered_with_the_strong_model_at_once(bundle: Bundle):
    async def check(_: GatedModel, service: RouterService, channel: Any) -> None:
        got = await pass_through(channel, post(chat("gpt-4o-mini")))
        assert got.headers["x-turnout-reason"] == "FALLBACK"
        assert json.loads(got.body)["model"] == "gpt-4o"
        assert service.answering.admission.refused["queue"] == 1

    gated(check, bundle, max_queue_items=1)


def test_slow_decision_is_answered_in_time_and_never_reaches_the_model(bundle: Bundle):
    async def check(model: GatedModel, service: RouterService, channel: Any) -> None:
        got = await pass_through(channel, post(chat("gpt-4o")))
        assert got.headers["x-turnout-reason"] == "FALLBACK"
        model.gate.set()
        await until(lambda: service.answering.admission.items == 0)
        assert model.texts.count("hello") == 0

    gated(check, bundle, ext_proc_timeout_s=0.05)


def test_cancelled_request_leaves_nothing_behind_and_harms_nobody(bundle: Bundle):
    async def check(model: GatedModel, service: RouterService, channel: Any) -> None:
        calls = []
        for request in (post(chat("gpt-4o", "gone")), post(chat("gpt-4o", "stays"))):
            call = stub(channel)(timeout=60)
            headers, body = buffered(request)
            await call.write(headers)
            await call.read()
            await call.write(body)
            calls.append(call)
        await until(lambda: service.answering.admission.items == 3)
        calls[0].cancel()
        await until(lambda: service.n_calls == 2)
        model.gate.set()
        reply = await calls[1].read()
        assert reply.request_body.response.clear_route_cache
        await calls[1].done_writing()
        await until(lambda: service.n_calls == 0)
        assert "gone" not in model.texts
        assert service.answering.admission.items == 0

    gated(check, bundle, ext_proc_timeout_s=60.0)


@pytest.mark.parametrize("sent", [0, 1])
def test_stream_half_closed_before_the_body_ends_well(bundle: Bundle, sent: int):
    async def check() -> None:
        async with processing(bundle) as (service, channel):
            call = stub(channel)(timeout=60)
            for message in [*buffered(post(chat()))][:sent]:
                await call.write(message)
                assert (await call.read()).WhichOneof("response") == "request_headers"
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert await call.code() == grpc.StatusCode.OK
            await until(lambda: service.n_calls == 0)
            assert service.model_calls == 0

    asyncio.run(check())


@pytest.mark.parametrize("mode", ["STREAMED", "BUFFERED_PARTIAL", "GRPC"])
def test_body_mode_in_which_envoy_would_ignore_us_is_refused_by_name(bundle: Bundle, mode: str):
    message = next(buffered(post(chat())))
    message.protocol_config.request_body_mode = mode
    with pytest.raises(grpc.aio.AioRpcError, match=f"got {mode}") as failure:
        passed(bundle, post(chat()), [message], ext_proc=ExtProc.HEADERS)
    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("raw", [b"", b"\xff" * 9, b"\x12\x05abc", BUFFERED.SerializeToString()])
def test_bytes_that_are_no_message_are_invalid_and_quote_nothing(bundle: Bundle, raw: bytes):
    async def check() -> None:
        async with processing(bundle) as (_, channel):
            call = channel.stream_stream(f"/{SERVICE_NAME}/Process")(iter([raw]), timeout=60)
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await call.read()
            assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "abc" not in failure.value.details()

    asyncio.run(check())


def test_cold_server_is_unavailable(bundle: Bundle):
    async def check() -> None:
        settings = ServerSettings(listen="127.0.0.1:0", ext_proc=ExtProc.HEADERS)
        server = RouterServer(lifecycle_of(bundle), settings)
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await pass_through(channel, post(chat()))
        await server.stop(0)
        assert failure.value.code() == grpc.StatusCode.UNAVAILABLE

    asyncio.run(check())


@pytest.mark.parametrize("trailers", [{}, {"x-checksum": "1"}])
@pytest.mark.parametrize(("text", "n_decisions"), [("hello " * 20, 1), ("x" * 5000, 0)])
def test_observed_requests_are_decided_and_logged_and_never_answered(
    bundle: Bundle, tmp_path: Path, trailers: dict[str, str], text: str, n_decisions: int
):
    async def check() -> None:
        logged = {"spool": tmp_path, "log_decisions": LogDecisions.DIGEST}
        async with processing(bundle, max_request_bytes=4096, **logged) as (service, channel):
            call = stub(channel)(timeout=60)
            for message in observed(post(chat("gpt-4o", text), trailers)):
                await call.write(message)
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            assert await call.code() == grpc.StatusCode.OK
            assert service.decision_log.offered == n_decisions

    asyncio.run(check())


def test_observed_request_that_breaks_off_is_not_decided(bundle: Bundle):
    async def check() -> None:
        async with processing(bundle) as (service, channel):
            call = stub(channel)(timeout=60)
            for message in [*observed(post(chat()))][:-1]:
                await call.write(message)
            await until(lambda: service.n_calls == 1)
            call.cancel()
            await until(lambda: service.n_calls == 0)
            assert service.model_calls == 0

    asyncio.run(check())


def test_off_unless_asked_for(server: Any):
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as failure:
        next(stub(channel)(buffered(post(chat())), timeout=60))
    assert failure.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_token_must_be_good_for_route(bundle: Bundle, tmp_path: Path):
    tokens = tmp_path / "tokens.toml"
    entries = []
    for name, method in (("envoy", "Route"), ("app", "DescribeModel")):
        digest = hashlib.sha256(name.encode()).hexdigest()
        entries.append(f'[[token]]\nname = "{name}"\nsha256 = "{digest}"\nmethods = ["{method}"]\n')
    tokens.write_text("".join(entries))

    async def check() -> None:
        async with processing(bundle, tokens=tokens) as (_, channel):
            got = await pass_through(channel, post(chat()), metadata=(("authorization", "Bearer envoy"),))
            assert got.headers["x-turnout-model"] == "gpt-4o-mini"
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await pass_through(channel, post(chat()), metadata=(("authorization", "Bearer app"),))
            assert failure.value.code() == grpc.StatusCode.PERMISSION_DENIED

    asyncio.run(check())


def test_health_names_the_service_and_reflection_only_what_it_can_describe(bundle: Bundle):
    async def check() -> None:
        async with server_in_loop(bundle, ext_proc=ExtProc.HEADERS, reflection=True) as (_, address):
            assert await asyncio.to_thread(health_of, address, SERVICE_NAME) == SERVING
            with grpc.insecure_channel(address) as channel:
                database = await asyncio.to_thread(ProtoReflectionDescriptorDatabase, channel)
                assert SERVICE_NAME not in await asyncio.to_thread(database.get_services)

    asyncio.run(check())


def test_timeout_that_cannot_work_is_refused():
    with pytest.raises(SettingsRefused, match="ext_proc_timeout_s"):
        ServerSettings(ext_proc_timeout_s=0)


def test_prompts_are_in_no_log_of_any_of_this(bundle: Bundle, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    for body in (chat("gpt-4o", "7 canary-in-the-mine"), chat("gpt-4o", "canary-in-the-mine"), b"canary-in-the-mine {"):
        passed(bundle, post(body))
    assert "incident" in caplog.text
    assert "canary" not in caplog.text


OF_LADDERS = (*OURS, "x-turnout-rung", "x-turnout-effort")


@pytest.mark.parametrize(
    ("text", "rung", "model", "effort"),
    [
        ("hello", None, "gpt-4o-mini", None),
        ("word " * 20, None, "gpt-4o", None),
        ("word " * 400, "o3:high", "o3", "high"),
    ],
)
@pytest.mark.parametrize("mode", [ExtProc.REWRITE, ExtProc.HEADERS])
def test_rung_and_effort_of_a_ladder_come_as_headers_and_a_callers_own_go(
    ladder_bundle_folder: Path, mode: ExtProc, text: str, rung: str | None, model: str, effort: str | None
):
    sent = post(chat("auto", text, temperature=0.5), **dict.fromkeys(OF_LADDERS, "forged"))
    got = passed(load_bundle(ladder_bundle_folder), sent, ext_proc=mode)
    assert got.headers["x-turnout-model"] == model
    assert (got.headers.get("x-turnout-rung"), got.headers.get("x-turnout-effort")) == (rung, effort)
    body = json.loads(got.body)
    assert body["model"] == (model if mode is ExtProc.REWRITE else "auto")
    assert body.get("reasoning_effort") == (effort if mode is ExtProc.REWRITE else None)
    assert "forged" not in got.headers.values()


def test_what_is_not_decided_carries_no_rung_and_no_effort_of_a_caller(ladder_bundle_folder: Path):
    got = passed(load_bundle(ladder_bundle_folder), get(**dict.fromkeys(OF_LADDERS, "forged")))
    assert not got.headers.keys() & set(OF_LADDERS)
