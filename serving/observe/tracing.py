"""A span for each call, for OpenTelemetry (extra `otel`); off unless asked for.

In: a call's metadata and its answer. Out: spans to the exporter that the standard `OTEL_` variables
name. A span holds the decision and never text of the request. With traces off nothing here is
imported or called.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc

from turnout.serving.observe.metrics import policy_label
from turnout.serving.observe.otel import provider_and_propagator
from turnout.serving.wire.asking import routed_of
from turnout.serving.wire.route import SERVICE_NAME

SWITCHES = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)
"""Any of these in the environment turns traces on."""

SERVER_FAULTS = frozenset(
    {
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)
"""Codes that OpenTelemetry's conventions for gRPC servers count as errors, as far as they occur here."""


FLUSH_S = 1.0
"""Longest time that an ending server gives its last spans."""

_log = logging.getLogger("turnout.observe")


def wants_traces(asked: bool | None, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether spans are to be made: what was asked for on the command line, else what the environment says."""
    if asked is not None:
        return asked
    is_disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if is_disabled or environment.get(SWITCHES[0], "").strip().lower() == "none":
        return False
    return any(environment.get(name) for name in SWITCHES)


class Tracing:
    """Makes the spans of one worker."""

    def __init__(self, provider: Any, propagator: Any = None) -> None:
        """Take an OpenTelemetry tracer provider, and what reads callers' traces; None for the W3C's `traceparent`."""
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415  # extra

        self._provider = provider
        self._is_closed = False
        self._tracer = provider.get_tracer("turnout")
        self._extract = (propagator or TraceContextTextMapPropagator()).extract

    @contextmanager
    def span(self, method: str, metadata: Any) -> Iterator[Any]:
        """Hold the span of one call open; it hangs below the trace that the caller's metadata names."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415  # extra

        carrier = {key: value for key, value in metadata or () if isinstance(value, str)}
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

    def close(self, within_s: float = FLUSH_S) -> None:
        """Send what is still held back, within `within_s`; a second call does nothing.

        On a daemon thread: an exporter waits and tries again for up to a minute where its collector hangs or refuses.
        """
        if self._is_closed:
            return
        self._is_closed = True
        flushing = threading.Thread(target=self._provider.shutdown, name="turnout-spans", daemon=True)
        flushing.start()
        flushing.join(within_s)
        if flushing.is_alive():
            _log.warning("traces: the exporter did not take the last spans within %.1f s; they are lost", within_s)


def tracing_to_exporter() -> Tracing:
    """Return the tracing that sends its spans where the `OTEL_` variables say; raises `TracesUnavailable`."""
    return Tracing(*provider_and_propagator())


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
            **({} if answer.rung in ("", answer.model) else {"turnout.rung": answer.rung}),
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
