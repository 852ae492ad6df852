"""Spans of real calls over a socket, in OpenTelemetry's own exporter in memory."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.builders import BUNDLE_ID
from tests.contract.test_imports import modules_after
from tests.running import ANY_PORT, lifecycle_of, route
from tests.watching import watched_server
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.errors import how_to_install
from turnout.serving.observe.tracing import Tracing, wants_traces
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.server.running import RouterServer
from turnout.serving.settings import ServerSettings
from turnout.serving.wire.route import ROUTE_BATCH_METHOD, ROUTE_METHOD

CANARY = "canary-in-the-mine"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
Calls = Callable[[grpc.aio.Channel], Awaitable[Any]]


def spans_of(bundle: Bundle, calls: Calls) -> tuple[ReadableSpan, ...]:
    """Return the spans that a server made of the calls."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def serve() -> None:
        settings = ServerSettings(listen=ANY_PORT)
        server = RouterServer(lifecycle_of(bundle), settings, Tracing(provider))
        await server.start()
        try:
            await server.warm_up()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                await calls(channel)
        finally:
            await server.stop(0)

    asyncio.run(serve())
    return exporter.get_finished_spans()


def routing(**fields: Any) -> Calls:
    metadata = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("x-secret", CANARY))

    async def call(channel: grpc.aio.Channel) -> None:
        raw = pb.RouteRequest(**fields).SerializeToString()
        await channel.unary_unary(ROUTE_METHOD)(raw, timeout=60, metadata=metadata)

    return call


def test_span_holds_the_decision_and_hangs_below_the_callers_trace(bundle: Bundle):
    (span,) = spans_of(bundle, routing(text=f"hello {CANARY}", tenant=CANARY, request_id=CANARY, threshold=0.25))
    assert (span.name, span.kind) == ("turnout.v1.RouterService/Route", SpanKind.SERVER)
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT
    attributes = dict(span.attributes or {})
    assert 0 < attributes.pop("turnout.p_match") < 1
    assert attributes == {
        "rpc.system": "grpc",
        "rpc.service": "turnout.v1.RouterService",
        "rpc.method": "Route",
        "rpc.grpc.status_code": 0,
        "gen_ai.request.model": "gpt-4o-mini",
        "turnout.route": "weak",
        "turnout.reason": "MODEL",
        "turnout.stage": "FAST",
        "turnout.policy": "threshold",
        "turnout.bundle": BUNDLE_ID,
    }
    assert CANARY not in span.to_json()
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("fields", "number", "is_error"),
    [({"text": f"{CANARY} 7"}, 13, True), ({"text": CANARY, "policy": CANARY}, 5, False), ({}, 3, False)],
)
def test_failed_call_has_its_code_and_no_text(bundle: Bundle, fields: dict[str, str], number: int, is_error: bool):
    async def call(channel: grpc.aio.Channel) -> None:
        with pytest.raises(grpc.RpcError):
            await routing(**fields)(channel)

    (span,) = spans_of(bundle, call)
    assert (span.attributes or {})["rpc.grpc.status_code"] == number
    assert (span.status.status_code is StatusCode.ERROR) == is_error
    assert span.events == ()
    assert CANARY not in span.to_json()


def test_call_without_a_parent_begins_a_trace(bundle: Bundle):
    async def call(channel: grpc.aio.Channel) -> None:
        await channel.unary_unary(ROUTE_BATCH_METHOD)(pb.RouteBatchRequest().SerializeToString(), timeout=60)

    (span,) = spans_of(bundle, call)
    assert (span.name, span.parent) == ("turnout.v1.RouterService/RouteBatch", None)


@pytest.mark.parametrize(
    ("asked", "environment", "wanted"),
    [
        (None, {}, False),
        (True, {}, True),
        (False, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, False),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        (None, {"OTEL_TRACES_EXPORTER": "otlp"}, True),
        (None, {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        (None, {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
    ],
)
def test_traces_are_off_unless_asked_for(asked: bool | None, environment: dict[str, str], wanted: bool):
    assert wants_traces(asked, environment) == wanted


def test_a_server_without_traces_imports_nothing_of_opentelemetry():
    assert "opentelemetry" not in modules_after("import turnout.serving.cli.route, turnout.serving.server.observing")


def test_server_sends_its_spans_to_the_endpoint_of_the_environment(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    received: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = Thread(target=collector.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        with watched_server(bundle_folder, tmp_path / "stderr.log") as (server, _):
            route(server.address, text=CANARY)
            server.process.terminate()
            assert server.wait() == 0
        collector.shutdown()
        thread.join()
    (request,) = (ExportTraceServiceRequest.FromString(raw) for raw in received)
    (resource,) = request.resource_spans
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["turnout.v1.RouterService/Route"]
    assert {item.key: item.value.string_value for item in resource.resource.attributes}["service.name"] == "turnout"
    assert all(CANARY.encode() not in raw for raw in received)


def test_traces_without_the_extra_say_how_to_get_it(bundle_folder: Path):
    code = (
        "import sys\n"
        "sys.modules['opentelemetry.exporter.otlp.proto.http'] = None\n"
        "from turnout.serving.cli.app import main\n"
        "main()\n"
    )
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "serve",
            "--bundle",
            str(bundle_folder),
            "--listen",
            ANY_PORT,
            "--workers",
            "0",
            "--traces",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert ended.returncode == 2
    assert how_to_install("otel") in ended.stderr
    assert json.dumps(ended.stderr).count("Traceback") == 0
