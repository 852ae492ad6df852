"""A real server, scraped over HTTP while it answers over gRPC."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.builders import BUNDLE_ID
from tests.gates import BLOCKER, GatedModel, until
from tests.running import refusal, route, server_in_loop
from tests.watching import watched_server
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.cli.scrape import NotScraped, Snapshot, scrape
from turnout.serving.observe.exposition import MetricsPortTaken, start_exposition
from turnout.serving.observe.logs import LogFormat
from turnout.serving.observe.metrics import ServerMetrics
from turnout.serving.observe.settings import DEFAULT_METRICS, ObserveSettings, observe_settings
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.server.observing import expose
from turnout.serving.server.running import RouterServer
from turnout.serving.settings import SettingsRefused
from turnout.serving.wire.route import DESCRIBE_MODEL_METHOD, ROUTE_BATCH_METHOD, ROUTE_STREAM_METHOD

PREFIX = "turnout_"


def unary(address: str, method: str, request: object) -> None:
    with grpc.insecure_channel(address) as channel:
        channel.unary_unary(method, request_serializer=lambda message: message.SerializeToString())(request, timeout=60)


def stream(address: str, requests: list) -> None:
    with grpc.insecure_channel(address) as channel:
        call = channel.stream_stream(ROUTE_STREAM_METHOD, request_serializer=lambda item: item.SerializeToString())
        assert len(list(call(iter(requests), timeout=60))) == len(requests)


def scrape_until(url: str, is_so: Callable[[Snapshot], bool], timeout_s: float = 60) -> Snapshot:
    """Return the first scrape of which it is so: histograms are written once a second."""
    deadline_s = time.monotonic() + timeout_s
    while not is_so(seen := scrape(url, 60)):
        assert time.monotonic() < deadline_s, seen
        time.sleep(0.1)
    return seen


def codes(seen: Snapshot, name: str) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for series in seen.matching(f"{PREFIX}{name}"):
        counts[series.labels["code"]] += series.value
    return dict(+counts)


def test_every_request_is_a_decision_or_a_failure_and_every_call_is_counted(bundle_folder: Path, tmp_path: Path):
    with watched_server(bundle_folder, tmp_path / "stderr.log") as (server, url):
        route(server.address, text="hello")
        route(server.address, text="hello", threshold=0.25)
        refusal(server.address, b"\xff")
        refusal(server.address, pb.RouteRequest(text="not a number: 7").SerializeToString())
        refusal(server.address, pb.RouteRequest(text="x", policy="none").SerializeToString())
        good, bad = pb.RouteRequest(text="hello"), pb.RouteRequest(text="7")
        unary(server.address, ROUTE_BATCH_METHOD, pb.RouteBatchRequest(requests=[good, bad, good]))
        stream(server.address, [pb.RouteStreamRequest(request=good), pb.RouteStreamRequest(request=bad)])
        unary(server.address, DESCRIBE_MODEL_METHOD, pb.DescribeModelRequest())
        seen = scrape_until(url, lambda now: now.total(f"{PREFIX}rpc_seconds_count") == 8)

    assert seen.total(f"{PREFIX}decisions_total") == 5
    assert seen.total(f"{PREFIX}decisions_total", policy="threshold", bundle=BUNDLE_ID) == 1
    assert codes(seen, "failures_total") == {"INTERNAL": 3, "INVALID_ARGUMENT": 1, "NOT_FOUND": 1}
    assert codes(seen, "rpcs_total") == {"OK": 5, "INTERNAL": 1, "INVALID_ARGUMENT": 1, "NOT_FOUND": 1}
    methods = {series.labels["method"]: series.value for series in seen.matching(f"{PREFIX}rpc_seconds_count")}
    assert methods == {"Route": 5, "RouteBatch": 1, "RouteStream": 1, "DescribeModel": 1}
    assert 0 < seen.total(f"{PREFIX}stage_seconds_sum") < seen.total(f"{PREFIX}rpc_seconds_sum")
    assert seen.total(f"{PREFIX}worker_ready") == seen.total(f"{PREFIX}bundle_info", bundle=BUNDLE_ID) == 1


def test_prompts_tenants_and_ids_are_in_no_series(bundle_folder: Path, tmp_path: Path):
    canary = "canary-in-the-mine"
    with watched_server(bundle_folder, tmp_path / "stderr.log") as (server, url):
        route(server.address, text=canary, tenant=canary, task=canary, request_id=canary, session_id=canary)
        for policy, bundle in ((canary, ""), ("", canary)):
            refusal(server.address, pb.RouteRequest(text="x", policy=policy, bundle=bundle).SerializeToString())
        assert all(canary not in str(series) for series in scrape(url, 60).series)


@pytest.mark.parametrize(
    ("timeout_s", "code"), [(0.5, "DEADLINE_EXCEEDED"), (1.5, "DEADLINE_EXCEEDED"), (30, "CANCELLED")]
)
def test_call_that_ends_while_it_waits_is_a_failure_with_its_code(bundle: Bundle, timeout_s: float, code: str):
    gated = GatedModel(bundle.model)

    async def check() -> ServerMetrics:
        async with (
            server_in_loop(dataclasses.replace(bundle, model=gated)) as (server, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            metrics = server.service.metrics
            call = channel.unary_unary("/turnout.v1.RouterService/Route")
            blocked = call(pb.RouteRequest(text=BLOCKER).SerializeToString())
            await until(gated.at_gate.is_set)
            waiting = call(pb.RouteRequest(text="behind it").SerializeToString(), timeout=timeout_s)
            await until(lambda: metrics.in_flight == 2)
            if code == "CANCELLED":
                waiting.cancel()
            await until(lambda: metrics.in_flight == 1)
            gated.gate.set()
            await blocked
            await until(lambda: metrics.in_flight == 0)
            return metrics

    registry = asyncio.run(check()).registry
    assert registry.get_sample_value("turnout_rpcs_total", {"method": "Route", "code": code}) == 1
    assert registry.get_sample_value("turnout_failures_total", {"code": code}) == 1
    assert registry.get_sample_value("turnout_rpcs_total", {"method": "Route", "code": "OK"}) == 1


def test_refusals_of_the_queue_are_counted_by_cause(bundle: Bundle):
    gated = GatedModel(bundle.model)

    async def check() -> RouterServer:
        async with server_in_loop(dataclasses.replace(bundle, model=gated), max_queue_items=1) as (server, address):
            blocked = asyncio.create_task(asyncio.to_thread(route, address, 20, text=BLOCKER))
            await until(gated.at_gate.is_set)
            refused = await asyncio.to_thread(
                refusal, address, pb.RouteRequest(text="one too many").SerializeToString()
            )
            assert refused[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
            gated.gate.set()
            await blocked
            return server

    registry = asyncio.run(check()).service.metrics.registry
    assert registry.get_sample_value("turnout_refusals_total", {"cause": "queue"}) == 1
    assert registry.get_sample_value("turnout_failures_total", {"code": "RESOURCE_EXHAUSTED"}) == 1


def test_taken_port_is_refused_and_a_taken_default_port_is_not():
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(MetricsPortTaken, match=address):
            start_exposition(address, ServerMetrics())
        assert expose(ObserveSettings(metrics=address, metrics_required=False), ServerMetrics()) is None
    with pytest.raises(SettingsRefused, match="expected host:port"):
        start_exposition("nonsense", ServerMetrics())


def test_closed_exposition_frees_its_port():
    exposition = start_exposition("127.0.0.1:0", ServerMetrics())
    assert scrape(exposition.url, 60).total(f"{PREFIX}worker_ready") == 0
    exposition.close()
    with pytest.raises(NotScraped, match="is the server running"):
        scrape(exposition.url, 60)
    start_exposition(exposition.address, ServerMetrics()).close()


@pytest.mark.parametrize(
    ("option", "address", "required"),
    [(None, DEFAULT_METRICS, False), ("off", "", True), ("127.0.0.1:9999", "127.0.0.1:9999", True)],
)
def test_metrics_option_is_an_address_or_off(option: str | None, address: str, required: bool):
    settings = observe_settings(option, LogFormat.TEXT, None)
    assert settings.metrics == address
    assert settings.metrics_required == required
