"""Many requests at once: the answers of `Route`, in order, and a bad item fails alone."""

from __future__ import annotations

import asyncio
import dataclasses

import grpc
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import BUNDLE_ID, DEFAULT_POLICY
from tests.running import ServerProcess, route, server_in_loop
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.client import AsyncRouter, RouteItem, Router
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.wire.route import DESCRIBE_MODEL_METHOD, ROUTE_BATCH_METHOD

INVALID, NOT_FOUND, INTERNAL = (
    code.value[0] for code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL)
)
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs", "Nd"]), min_size=1, max_size=60), max_size=8)
SHARED_SERVER = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def batch_raw(address: str, raw: bytes) -> pb.RouteBatchResponse:
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(ROUTE_BATCH_METHOD, response_deserializer=pb.RouteBatchResponse.FromString)
        return method(raw, timeout=60)


def batch(address: str, requests: list[pb.RouteRequest]) -> list[pb.RouteResult]:
    return list(batch_raw(address, pb.RouteBatchRequest(requests=requests).SerializeToString()).results)


def without_timings(response: pb.RouteResponse) -> pb.RouteResponse:
    response.ClearField("timings")
    return response


@SHARED_SERVER
@given(TEXTS)
def test_batch_answers_what_route_answers(server: ServerProcess, texts: list[str]):
    for text, result in zip(texts, batch(server.address, [pb.RouteRequest(text=text) for text in texts]), strict=True):
        try:
            expected = route(server.address, text=text)
        except grpc.RpcError as error:
            assert (result.failure.code, error.details()) == (error.code().value[0], result.failure.message)  # noqa: PT017
        else:
            assert without_timings(result.response) == without_timings(expected)


@SHARED_SERVER
@given(st.permutations(range(12)))
def test_permutation_of_a_batch_permutes_its_answers(server: ServerProcess, order: list[int]):
    requests = [pb.RouteRequest(text="word " * (n + 1), request_id=f"r{n}") for n in range(12)]
    straight = [without_timings(result.response) for result in batch(server.address, requests)]
    permuted = [without_timings(result.response) for result in batch(server.address, [requests[n] for n in order])]
    assert permuted == [straight[n] for n in order]


def test_bad_item_fails_alone_with_its_own_code(server: ServerProcess):
    good = pb.RouteRequest(text="hello", request_id="good")
    bad = {
        INVALID: [pb.RouteRequest(request_id="bad"), pb.RouteRequest(text="hello", threshold=7, request_id="bad")],
        NOT_FOUND: [pb.RouteRequest(text="hello", policy="no_such", request_id="bad")],
        INTERNAL: [pb.RouteRequest(text="7 is NaN here", request_id="bad")],
    }
    items = [(code, request) for code, requests in bad.items() for request in requests]
    results = batch(server.address, [request for _, item in items for request in (good, item)])
    assert [result.response.request_id for result in results[::2]] == ["good"] * len(items)
    assert [result.failure.code for result in results[1::2]] == [code for code, _ in items]
    assert {result.failure.request_id for result in results[1::2]} == {"bad"}
    assert all(result.failure.message for result in results[1::2])


def test_undecodable_item_fails_alone(server: ServerProcess):
    good = pb.RouteRequest(text="hello").SerializeToString()
    not_utf8 = bytes([2 << 3 | 2, 2]) + b"\xc3\x28"
    raw = b"".join(bytes([1 << 3 | 2, len(item)]) + item for item in (good, not_utf8, good))
    results = batch_raw(server.address, raw).results
    assert [result.WhichOneof("outcome") for result in results] == ["response", "failure", "response"]
    assert results[1].failure.code == INVALID


def test_empty_batch_has_no_results(server: ServerProcess):
    assert batch(server.address, []) == []


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (pb.RouteBatchRequest(requests=[pb.RouteRequest(text="a")] * 101).SerializeToString(), "at most 100"),
        (pb.RouteBatchRequest(requests=[pb.RouteRequest(text="a" * (3 << 20))] * 3).SerializeToString(), "at most 83"),
        (b"\xff" * 50, "undecodable"),
    ],
    ids=["items", "bytes", "garbage"],
)
def test_batch_over_its_limits_is_an_invalid_argument(server: ServerProcess, raw: bytes, says: str):
    with pytest.raises(grpc.RpcError, match=says) as refused:
        batch_raw(server.address, raw)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_item_over_the_limit_of_an_item_fails_alone(server: ServerProcess):
    big, good = batch(server.address, [pb.RouteRequest(text="a" * (5 << 20)), pb.RouteRequest(text="hello")])
    assert (big.failure.code, good.response.tier) == (INVALID, pb.TIER_WEAK)


def test_client_falls_back_item_by_item(server: ServerProcess):
    items = [
        RouteItem(text="hello"),
        RouteItem(text="hello", policy="no_such"),
        RouteItem(),
        RouteItem(text=7),
        RouteItem(text="word " * 90),
    ]
    with Router(server.address, timeout_s=60, strong_model="the-strong-one") as router:
        routed = router.route_batch(items)
        assert [one.model for one in routed] == ["gpt-4o-mini", *["the-strong-one"] * 3, "gpt-4o"]
        assert router.fallbacks == {"not_found": 1, "invalid_argument": 1, "client_error": 1}
        assert router.route_batch([]) == []
    assert {one.fallback_reason for one in router.route_batch(items[:1] * 3)} == {"client_error"}  # closed


def test_async_client_answers_a_batch_and_falls_back_as_a_whole(bundle: Bundle):
    async def check() -> None:
        async with (
            server_in_loop(bundle, max_batch_items=2) as (_, address),
            AsyncRouter(address, timeout_s=60) as router,
        ):
            assert [one.tier for one in await router.route_batch([RouteItem(text="hello")] * 2)] == ["weak"] * 2
            routed = await router.route_batch([RouteItem(text="hello")] * 3)
            assert [one.fallback_reason for one in routed] == ["invalid_argument"] * 3

    asyncio.run(check())


def test_describe_model_says_what_the_manifest_says(bundle: Bundle):
    measured = {"metrics": {"auroc": 0.7, "undefined": None}, "intervals": {"auroc": (0.6, 0.8)}}
    manifest = msgspec.structs.replace(bundle.manifest, **measured)

    async def check() -> pb.DescribeModelResponse:
        served = dataclasses.replace(bundle, manifest=manifest)
        async with server_in_loop(served) as (_, address), grpc.aio.insecure_channel(address) as channel:
            method = channel.unary_unary(
                DESCRIBE_MODEL_METHOD,
                request_serializer=pb.DescribeModelRequest.SerializeToString,
                response_deserializer=pb.DescribeModelResponse.FromString,
            )
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await method(pb.DescribeModelRequest(bundle="other"), timeout=60)
            assert refused.value.code() == grpc.StatusCode.NOT_FOUND
            return await method(pb.DescribeModelRequest(), timeout=60)

    said = asyncio.run(check())
    assert (said.bundle, said.default_policy, said.synthetic) == (BUNDLE_ID, DEFAULT_POLICY, True)
    assert (said.strong_model, said.weak_model) == ("gpt-4o", "gpt-4o-mini")
    assert [(policy.name, policy.threshold) for policy in said.policies] == [
        (policy.name, policy.threshold) for policy in manifest.policies
    ]
    assert said.policies[0].share_worse_bound == manifest.policies[0].share_worse_bound
    auroc, undefined = said.figures
    assert (auroc.name, auroc.value, auroc.low, auroc.high) == ("auroc", 0.7, 0.6, 0.8)
    assert not any(undefined.HasField(name) for name in ("value", "low", "high"))
