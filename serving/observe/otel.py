"""What the standard `OTEL_` variables ask for, made by OpenTelemetry's own parts (extra `otel`).

Environment in, a tracer provider with its exporters and a propagator out. Parts are found by the entry points that
OpenTelemetry's own configuration uses, so that what is installed beside Turnout can be named too; what is not there is
refused by name, for spans that go nowhere are missed only when they are needed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from turnout.serving.errors import EXIT_USAGE, TurnoutError, how_to_install

EXPORTER = "OTEL_TRACES_EXPORTER"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROPAGATORS = "OTEL_PROPAGATORS"
SAMPLER = "OTEL_TRACES_SAMPLER"
SERVICE = "turnout"

DEFAULT_PROTOCOL = "http/protobuf"
"""As the specification recommends; over gRPC only where that is asked for, for it brings channels into this process."""

_BY_PROTOCOL = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
_ROOT_SAMPLERS = ("always_on", "always_off", "traceidratio")
_SAMPLERS = (*_ROOT_SAMPLERS, *(f"parentbased_{name}" for name in _ROOT_SAMPLERS))
_PACKAGES = {
    "otlp_proto_grpc": "opentelemetry-exporter-otlp-proto-grpc",
    "zipkin": "opentelemetry-exporter-zipkin",
    "b3": "opentelemetry-propagator-b3",
    "b3multi": "opentelemetry-propagator-b3",
    "jaeger": "opentelemetry-propagator-jaeger",
    "xray": "opentelemetry-propagator-aws-xray",
}
"""Where parts come from that the extra `otel` leaves out."""

_OTHER_SIGNALS = ("OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")
_log = logging.getLogger("turnout.observe")


class TracesUnavailable(TurnoutError):
    """Traces were asked for and can't be made; exit code 2."""

    exit_code = EXIT_USAGE


def exporters_of(environment: Mapping[str, str]) -> list[EntryPoint]:
    """Return the span exporters that the environment names; without a name OTLP.

    Raises:
        TracesUnavailable: one is unknown, not installed, or asked for over a protocol that is.
    """
    names = _listed(environment.get(EXPORTER, "")) or ["otlp"]
    if names == ["none"]:
        raise TracesUnavailable(f"traces are asked for, and {EXPORTER}=none says no; leave one of them out")
    return [_exporter(name, environment) for name in names]


def _exporter(name: str, environment: Mapping[str, str]) -> EntryPoint:
    group = "opentelemetry_traces_exporter"
    if name != "otlp":
        return _part(group, name, EXPORTER, name)
    variable = next((known for known in PROTOCOLS if environment.get(known, "").strip()), PROTOCOLS[1])
    protocol = environment.get(variable, "").strip() or DEFAULT_PROTOCOL
    if protocol not in _BY_PROTOCOL:
        raise TracesUnavailable(f"{variable}: expected {' or '.join(_BY_PROTOCOL)}, got {protocol!r}")
    return _part(group, _BY_PROTOCOL[protocol], variable, protocol)


def propagators_of(environment: Mapping[str, str]) -> list[EntryPoint]:
    """Return the propagators that the environment names; none for `none`, the W3C's two without a name.

    Raises:
        TracesUnavailable: one is unknown or not installed.
    """
    names = _listed(environment.get(PROPAGATORS, "")) or ["tracecontext", "baggage"]
    if "none" in names:
        return []
    return [_part("opentelemetry_propagator", name, PROPAGATORS, name) for name in names]


def check_sampler(environment: Mapping[str, str]) -> None:
    """Refuse a sampler that OpenTelemetry does not know: it would take all spans, with a line in the log."""
    sampler = environment.get(SAMPLER, "").strip()
    if sampler and sampler.lower() not in _SAMPLERS:
        raise TracesUnavailable(f"{SAMPLER}: expected one of {', '.join(_SAMPLERS)}, got {sampler!r}")


def provider_and_propagator(environment: Mapping[str, str] = os.environ) -> tuple[Any, Any]:
    """Return a tracer provider with the exporters asked for, each in batches on a thread of its own, and a propagator.

    Raises:
        TracesUnavailable: the extra `otel` is not installed, or a variable names what is not there.
    """
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  # extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise TracesUnavailable(f"traces need {error.name}; {how_to_install('otel')}") from None
    except ValueError:  # opentelemetry.propagate reads OTEL_PROPAGATORS when it is imported
        propagators_of(environment)
        raise
    check_sampler(environment)
    exporters, propagators = exporters_of(environment), propagators_of(environment)
    from opentelemetry.propagators.composite import CompositePropagator  # noqa: PLC0415

    name = environment.get("OTEL_SERVICE_NAME", SERVICE)
    provider = TracerProvider(resource=Resource.create({"service.name": name}), shutdown_on_exit=False)
    for exporter in exporters:
        try:
            provider.add_span_processor(BatchSpanProcessor(_loaded(exporter)()))
        except ValueError as error:  # a size or a time that none can be
            named = sorted(one for one in environment if one.startswith(("OTEL_BSP_", "OTEL_EXPORTER_")))
            raise TracesUnavailable(f"{', '.join(named)}: {error}") from None
    for signal in _OTHER_SIGNALS:
        if environment.get(signal, "none").strip().lower() not in ("", "none"):
            _log.warning("%s is not used: only traces go by OpenTelemetry; metrics are at --metrics", signal)
    return provider, CompositePropagator([_loaded(propagator)() for propagator in propagators])


def _part(group: str, name: str, variable: str, value: str) -> EntryPoint:
    found = tuple(entry_points(group=group, name=name))
    if found:
        return found[0]
    if name in _PACKAGES:
        raise TracesUnavailable(f"{variable}={value} needs a package that is not here: pip install {_PACKAGES[name]}")
    known = sorted({part.name for part in entry_points(group=group)})
    raise TracesUnavailable(f"{variable}: nothing installed is called {value!r}; there are {', '.join(known)}")


def _loaded(part: EntryPoint) -> Any:
    try:
        return part.load()
    except ImportError as error:
        raise TracesUnavailable(f"{part.name}: {error}; {how_to_install('otel')}") from None


def _listed(value: str) -> list[str]:
    return [name.strip().lower() for name in value.split(",") if name.strip()]
