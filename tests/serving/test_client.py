"""The client always has an answer: the router's, or the strong model."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from tests.builders import BUNDLE_ID
from tests.ports import free_port
from tests.running import ServerProcess, server_in_loop
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.client import AsyncRouter, Routed, Router
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.wire.route import SERVICE_NAME

PATIENT_S = 60.0


@pytest.fixture
def router(server: ServerProcess) -> Iterator[Router]:
    with Router(server.address, timeout_s=PATIENT_S, strong_model="the-strong-one") as client:
        yield client


@pytest.fixture
def closed_address() -> str:
    """Return an address that nobody listens on."""
    return f"127.0.0.1:{free_port()}"


def assert_fell_back(routed: Routed, why: str) -> None:
    assert (routed.model, routed.tier, routed.reason) == ("the-strong-one", "strong", "FALLBACK")
    assert (routed.p_match, routed.confidence, routed.fallback_reason) == (None, None, why)
    assert routed.latency_ms > 0


def test_answer_of_the_router_comes_through(router: Router):
    routed = router.route(text="hello", request_id="r1")
    assert (routed.model, routed.tier, routed.reason, routed.stage) == ("gpt-4o-mini", "weak", "MODEL", "FAST")
    assert (routed.bundle, routed.fallback_reason, routed.threshold) == (BUNDLE_ID, None, 0.75)
    assert routed.p_match == routed.confidence
    assert not router.fallbacks


def test_strong_answer_is_no_fallback(router: Router):
    routed = router.route(text="word " * 90)
    assert (routed.model, routed.tier, routed.reason) == ("gpt-4o", "strong", "MODEL")
    assert not router.fallbacks


def test_messages_plain_and_in_parts_agree_with_text(router: Router):
    text = "word " * 9
    contents = (text, [{"type": "text", "text": text}])
    replies = [router.route(messages=[{"role": "user", "content": content}]) for content in contents]
    replies.append(router.route(openai_body=b'{"messages": [{"role": "user", "content": "%s"}]}' % text.encode()))
    assert {reply.p_match for reply in replies} == {router.route(text=text).p_match}


def test_message_without_content_is_accepted(router: Router):
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": None, "tool_calls": []}]
    assert router.route(messages=messages).reason == "MODEL"


def test_lone_surrogate_in_text_is_routed_all_the_same(router: Router):
    assert router.route(text="hello \ud800").reason == "MODEL"


def test_call_overrides_the_defaults_of_the_router(server: ServerProcess):
    with Router(server.address, timeout_s=PATIENT_S, policy="max_worse=0.05") as client:
        assert client.route(text="hello").policy == "max_worse=0.05"
        assert client.route(text="hello", policy="max_worse=0.01").policy == "max_worse=0.01"
        assert client.route(text="hello", threshold=1.0).tier == "strong"


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ({"text": ""}, "invalid_argument"),
        ({"text": "hello", "threshold": float("nan")}, "invalid_argument"),
        ({"openai_body": b"not json"}, "invalid_argument"),
        ({"text": "x" * (5 << 20)}, "invalid_argument"),
        ({"text": "hello", "policy": "no_such"}, "not_found"),
        ({"text": "hello", "bundle": "no_such"}, "not_found"),
        ({"text": "7 is NaN here"}, "internal"),
        ({}, "invalid_argument"),
        ({"text": "hello", "openai_body": b"{}"}, "invalid_argument"),
        ({"text": 7}, "client_error"),
        ({"messages": [7]}, "client_error"),
    ],
)
def test_failure_becomes_the_strong_model_and_is_counted(router: Router, call: dict, why: str):
    assert_fell_back(router.route(**call), why)
    assert router.fallbacks == {why: 1}


def test_slow_answer_becomes_the_strong_model(slow_bundle_folder: Path):
    async def check() -> None:
        async with server_in_loop(load_bundle(slow_bundle_folder)) as (_, address):
            client = AsyncRouter(address, timeout_s=0.02, strong_model="the-strong-one")
            assert_fell_back(await client.route(text="?" * 30), "deadline_exceeded")  # some 300 ms of work
            assert client.fallbacks == {"deadline_exceeded": 1}
            await client.close()

    asyncio.run(check())


def test_no_server_becomes_the_strong_model(closed_address: str):
    with Router(closed_address, timeout_s=PATIENT_S, strong_model="the-strong-one") as client:
        assert_fell_back(client.route(text="hello"), "unavailable")


def test_client_finds_a_restarted_server(bundle: Bundle):
    async def check() -> None:
        async with server_in_loop(bundle) as (_, address):
            client = AsyncRouter(address, timeout_s=PATIENT_S)
            assert (await client.route(text="hello")).reason == "MODEL"
        assert (await client.route(text="hello")).fallback_reason == "unavailable"
        async with server_in_loop(bundle, listen=address):
            for _ in range(1200):
                if (await client.route(text="hello")).reason == "MODEL":
                    break
                await asyncio.sleep(0.05)
            else:
                pytest.fail("still falling back after a minute")
        await client.close()

    asyncio.run(check())


def test_closed_client_becomes_the_strong_model(server: ServerProcess):
    client = Router(server.address, strong_model="the-strong-one")
    client.close()
    assert_fell_back(client.route(text="hello"), "client_error")


@pytest.mark.parametrize(("reply", "why"), [(b"", "bad_response"), (b"\xff\xff", "internal")])
def test_senseless_reply_becomes_the_strong_model(reply: bytes, why: str):
    handler = grpc.unary_unary_rpc_method_handler(lambda _request, _context: reply)
    other = grpc.server(ThreadPoolExecutor(1))
    other.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, {"Route": handler}),))
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()
    with Router(f"127.0.0.1:{port}", timeout_s=PATIENT_S, strong_model="the-strong-one") as client:
        assert_fell_back(client.route(text="hello"), why)
    other.stop(None).wait()


def test_reason_of_a_later_server_is_read_as_a_rule():
    later = pb.RouteResponse(tier=pb.TIER_STRONG, model="gpt-4o", reason=99, stage=99).SerializeToString()
    handler = grpc.unary_unary_rpc_method_handler(lambda _request, _context: later)
    other = grpc.server(ThreadPoolExecutor(1))
    other.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, {"Route": handler}),))
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()
    with Router(f"127.0.0.1:{port}", timeout_s=PATIENT_S) as client:
        routed = client.route(text="hello")
    assert (routed.reason, routed.stage, routed.fallback_reason) == ("RULE", None, None)
    other.stop(None).wait()


def test_fallbacks_of_many_threads_are_all_counted(closed_address: str):
    with Router(closed_address, timeout_s=PATIENT_S) as client, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.route(text="hello"), range(100)))
    assert client.fallbacks.total() == 100


def test_async_client_answers_and_falls_back(bundle: Bundle):
    async def check() -> None:
        async with (
            server_in_loop(bundle) as (_, address),
            AsyncRouter(address, timeout_s=PATIENT_S, strong_model="the-strong-one") as client,
        ):
            assert (await client.route(text="hello")).tier == "weak"
            assert_fell_back(await client.route(text="hello", policy="no_such"), "not_found")
            assert_fell_back(await client.route(text="7"), "internal")
            assert_fell_back(await client.route(), "invalid_argument")
            await client.close()
            assert_fell_back(await client.route(text="hello"), "client_error")
        assert client.fallbacks == {"not_found": 1, "internal": 1, "invalid_argument": 1, "client_error": 1}

    asyncio.run(check())


def test_async_client_does_not_swallow_the_callers_own_cancellation():
    async def check() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            async with AsyncRouter(address, timeout_s=PATIENT_S) as client:
                task = asyncio.create_task(client.route(text="hello"))
                await asyncio.sleep(0.05)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert not client.fallbacks

    asyncio.run(check())
