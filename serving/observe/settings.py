"""What of the server is to be seen, and how: one frozen dataclass that travels to every worker."""

from __future__ import annotations

from dataclasses import dataclass

from turnout.serving.observe.logs import LogFormat

DEFAULT_METRICS = "127.0.0.1:9464"
"""The port registered for OpenTelemetry's Prometheus exporter. On by default, as a server that nobody watches
is the more common accident; on loopback, as anyone who reads it learns how much traffic there is."""

OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObserveSettings:
    """How the server shows itself.

    Attributes:
        metrics: `host:port` where Prometheus reads; port 0 takes a free one. Empty: nowhere.
        metrics_required: whether the server refuses to start when that address is taken. False for the
            default address: a second server on the machine then serves without metrics, and says so.
        log_format: how a log line is written.
        traces: whether calls become OpenTelemetry spans; None leaves it to the `OTEL_` variables.
    """

    metrics: str = ""
    metrics_required: bool = True
    log_format: LogFormat = LogFormat.TEXT
    traces: bool | None = None


def observe_settings(metrics: str | None, log_format: LogFormat, traces: bool | None) -> ObserveSettings:
    """Return the settings that the command line's options stand for; no address takes the default one if it is free."""
    return ObserveSettings(
        metrics="" if metrics == OFF else metrics or DEFAULT_METRICS,
        metrics_required=metrics is not None,
        log_format=log_format,
        traces=traces,
    )
