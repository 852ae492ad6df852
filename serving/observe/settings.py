"""What of the server is to be seen, and how: one frozen dataclass that travels to every worker."""

from __future__ import annotations

from dataclasses import dataclass

from serving.observe.logs import LogFormat


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
