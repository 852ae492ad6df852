"""A span for each call, for OpenTelemetry (extra `otel`); off unless asked for.

In: a call's metadata and its answer. Out: spans to the exporter that the standard `OTEL_` variables
name. A span holds the decision and never text of the request. With traces off nothing here is
imported or called.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc

from turnout.serving.errors import EXIT_USAGE, TurnoutError
from turnout.serving.observe.metrics import policy_label
from turnout.serving.wire.asking import routed_of
from turnout.serving.wire.route import SERVICE_NAME

SWITCHES = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)
"""Any of these in the environment turns traces on."""

SERVICE = "turnout"
SERVER_FAULTS = frozenset(
    {
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)
"""Codes that OpenTelemetry's conventions for gRPC servers count as errors, as far as they occur here."""


class TracesUnavailable(TurnoutError):
    """Traces were asked for and can't be made; exit code 2."""

    exit_code = EXIT_USAGE


def wants_traces(asked: bool | None, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether spans are to be made: what was asked for on the command line, else what the environment says."""
    if asked is not None:
        return asked
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get(SWITCHES[0]) == "none":
        return False
    return any(environment.get(name) for name in SWITCHES)


class Tracing:
    """Makes the spans of one worker."""

    def __init__(self, provider: Any) -> None:
        """Take an OpenTelemetry tracer provider."""
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415  # extra

        self._provider = provider
        self._tracer = provider.get_tracer("turnout")
        self._extract = TraceContextTextMapPropagator().extract

    @contextmanager
    def span(self, method: str, metadata: Any) -> Iterator[Any]:
        """Hold the span of one call open; it hangs below the `traceparent` of the caller's metadata."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415  # extra

        carrier = {key: value for key, value in metadata or () if key in ("traceparent", "tracestate")}
        attributes = {"rpc.system": "grpc", "rpc.service": SERVICE_NAME, "rpc.method": method}
        with self._tracer.start_as_current_span(
            f"{SERVICE_NAME}/{method}",
            context=self._extract(carrier),
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,  # its text may quote the prompt
            set_status_on_exception=False,
        ) as span:
            yield span

    def close(self) -> None:
        """Send what is still held back."""
        self._provider.shutdown()


def tracing_to_exporter() -> Tracing:
    """Return the tracing that sends its spans over OTLP/HTTP, in batches, on a thread of its own.

    Raises:
        TracesUnavailable: the extra `otel` is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise TracesUnavailable(f"traces need {error.name}; get it with: pip install 'turnout[otel]'") from None
    name = os.environ.get("OTEL_SERVICE_NAME", SERVICE)
    provider = TracerProvider(resource=Resource.create({"service.name": name}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


def describe_answer(span: Any, reply: Any) -> None:
    """Write the decision of a `RouteResponse` into the span; other replies and failures add nothing."""
    answer = routed_of(reply, 0.0) if hasattr(reply, "tier") else None
    if answer is None:
        return
    span.set_attributes(
        {
            "gen_ai.request.model": answer.model,
            "turnout.route": answer.tier,
            "turnout.reason": answer.reason,
            "turnout.policy": policy_label(answer.policy),
            "turnout.bundle": answer.bundle,
            **({} if answer.stage is None else {"turnout.stage": answer.stage}),
            **({} if answer.p_match is None else {"turnout.p_match": answer.p_match}),
        }
    )


def describe_end(span: Any, code: grpc.StatusCode) -> None:
    """Write the call's gRPC code into the span; those that are the server's doing make it one that failed."""
    from opentelemetry.trace import StatusCode  # noqa: PLC0415  # extra

    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if code in SERVER_FAULTS:
        span.set_status(StatusCode.ERROR, code.name)
