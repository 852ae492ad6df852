"""The `OTEL_` variables mean what OpenTelemetry says, and what can't be had is refused by name."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.running import run_to_exit, server_process
from tests.serving.observe.test_tracing import CANARY, PARENT, TRACE
from turnout.serving.observe.otel import (
    TracesUnavailable,
    check_sampler,
    exporters_of,
    propagators_of,
    provider_and_propagator,
)
from turnout.serving.observe.tracing import Tracing, wants_traces


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({}, ["otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ["otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "console"}, ["console"]),
        ({"OTEL_TRACES_EXPORTER": " console , otlp "}, ["console", "otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ["otlp_proto_http"]),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            ["otlp_proto_http"],
        ),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ["console"]),
    ],
)
def test_exporters_are_those_named(environment: dict[str, str], names: list[str]):
    assert [part.name for part in exporters_of(environment)] == names


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "opentelemetry-exporter-otlp-proto-grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc", "opentelemetry-exporter-otlp-proto-grpc"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "http/protobuf"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "opentelemetry-exporter-zipkin"),
        ("OTEL_TRACES_EXPORTER", "otlp,nonsense", "nonsense"),
        ("OTEL_PROPAGATORS", "xray", "opentelemetry-propagator-aws-xray"),
        ("OTEL_PROPAGATORS", "tracecontext,nonsense", "nonsense"),
        ("OTEL_TRACES_SAMPLER", "sometimes", "sometimes"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1", "OTEL_BSP_"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100000", "OTEL_BSP_"),
    ],
)
def test_a_value_that_can_not_be_had_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(variable, value)
    if says.endswith("-grpc") and exporters_or_none():
        pytest.skip("the gRPC exporter is installed here")
    with pytest.raises(TracesUnavailable) as refused:
        provider_and_propagator()
    assert variable in str(refused.value)
    assert says in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("OTEL_TRACES_EXPORTER", "otlp,nonsense", "nonsense"),
        ("OTEL_PROPAGATORS", "tracecontext,nonsense", "nonsense"),  # read when OpenTelemetry is imported
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1", "OTEL_BSP_"),
    ],
)
def test_a_value_that_can_not_be_had_ends_the_start_by_name(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(variable, value)
    ended = run_to_exit(bundle_folder)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()[-1:]
    assert line.startswith("turnout: ")
    assert variable in line
    assert says in line


def exporters_or_none() -> bool:
    try:
        return bool(exporters_of({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}))
    except TracesUnavailable:
        return False


def test_known_samplers_are_taken_and_none_is_a_contradiction_only_where_traces_are_asked_for():
    for sampler in ("", "always_on", "parentbased_traceidratio", "TraceIdRatio"):
        check_sampler({"OTEL_TRACES_SAMPLER": sampler})
    for none in ("none", "None", " none"):
        assert not wants_traces(None, {"OTEL_TRACES_EXPORTER": none, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"})
        with pytest.raises(TracesUnavailable, match="says no"):
            exporters_of({"OTEL_TRACES_EXPORTER": none})


W3C = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
B3 = {"b3": f"{TRACE}-{PARENT}-1"}
B3_MULTI = {"x-b3-traceid": TRACE, "x-b3-spanid": PARENT, "x-b3-sampled": "1"}


@pytest.mark.parametrize(
    ("propagators", "carrier", "is_below"),
    [
        ("", W3C, True),
        ("", B3, False),
        ("b3", B3, True),
        ("b3", W3C, False),
        ("b3multi", B3_MULTI, True),
        ("tracecontext,b3", B3, True),
        ("tracecontext,b3", W3C, True),
        ("none", W3C, False),
    ],
)
def test_a_callers_trace_is_read_as_the_propagators_say(propagators: str, carrier: dict[str, str], is_below: bool):
    environment = {"OTEL_PROPAGATORS": propagators, "OTEL_TRACES_EXPORTER": "console"}
    assert len(propagators_of(environment)) == (0 if propagators == "none" else propagators.count(",") + 1 or 1) + (
        propagators == ""
    )
    provider, propagator = provider_and_propagator(environment)
    tracing = Tracing(provider, propagator)
    metadata = (*carrier.items(), ("binary-bin", b"\xff"))
    with tracing.span("Route", metadata) as span:
        context = span.get_span_context()
    assert (f"{context.trace_id:032x}" == TRACE) == is_below
    tracing.close()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_console_prints_spans_and_sends_nothing(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
):
    from tests.running import route

    with socket.create_server(("127.0.0.1", 0)) as collector:
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.getsockname()[1]}")
        log = tmp_path / "stderr.log"
        with server_process(bundle_folder, log, workers=workers) as server:
            route(server.address, text=CANARY)
            server.process.terminate()
            assert server.wait(60) == 0
            assert server.process.stdout is not None
            printed = server.process.stdout.read() + log.read_text()
        collector.settimeout(0)
        with pytest.raises(BlockingIOError):
            collector.accept()
    begin = printed.index('{\n    "name"')
    span, _ = json.JSONDecoder().raw_decode(printed[begin:])
    assert span["name"] == "turnout.v1.RouterService/Route"
    assert CANARY not in printed
