"""What a worker needs to be seen, opened before it serves and closed after."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from turnout.serving.observe.exposition import Exposition, MetricsPortTaken, start_exposition
from turnout.serving.observe.metrics import ServerMetrics
from turnout.serving.observe.settings import ObserveSettings
from turnout.serving.observe.supervised import SupervisorCounts
from turnout.serving.observe.tracing import Tracing, tracing_to_exporter, wants_traces
from turnout.serving.service.admission import Admission
from turnout.serving.settings import ServerSettings

if TYPE_CHECKING:
    from turnout.serving.service.decision_log import DecisionLog  # brings numpy, which a supervisor has no use for

SAMPLE_INTERVAL_S = 1.0
"""Below every scrape interval in use; a sample takes some 30 us."""

_log = logging.getLogger("turnout.observe")


@dataclass(frozen=True)
class Observation:
    """Where a worker counts and traces; by itself counts in memory and traces nothing. `close` ends both."""

    metrics: ServerMetrics = field(default_factory=ServerMetrics)
    tracing: Tracing | None = None
    close: Callable[[], None] = lambda: None
    exposition: Exposition | None = None


@contextlib.contextmanager
def observation(settings: ObserveSettings) -> Iterator[Observation]:
    """Open metrics and traces of a process that serves alone.

    Raises:
        MetricsPortTaken, SettingsRefused: the address for metrics can't be listened on.
        TracesUnavailable: the extra `otel` is not installed.
    """
    with contextlib.ExitStack() as stack:
        metrics = ServerMetrics()
        exposition = expose(settings, metrics)
        if exposition is not None:
            stack.callback(exposition.close)
        tracing = tracing_to_exporter() if wants_traces(settings.traces) else None
        if tracing is not None:
            stack.callback(tracing.close)
        yield Observation(metrics, tracing, stack.close, exposition)


def expose(
    settings: ObserveSettings, metrics: ServerMetrics | None = None, supervised: SupervisorCounts | None = None
) -> Exposition | None:
    """Start the exposition that the settings ask for; `metrics` is None in a supervisor, which has counts of its own.

    Raises:
        MetricsPortTaken, SettingsRefused: as `start_exposition`; a taken address that is not required is
            logged instead.
    """
    if not settings.metrics:
        return None
    try:
        return start_exposition(settings.metrics, metrics, supervised)
    except MetricsPortTaken as error:
        if settings.metrics_required:
            raise
        _log.warning("%s; serving without metrics", error)
        return None


def announce(exposition: Exposition | None, settings: ServerSettings, http: str = "") -> None:
    """Log where metrics, HTTP port and page are; when the server is ready, so that a refusal to start stands alone.

    Args:
        exposition: of the metrics; None for none.
        settings: of the server.
        http: the address of the HTTP port, with the port it got; empty for none.
    """
    if exposition is not None:
        _log.info("metrics on %s", exposition.url)
    if http:
        _log.info("http on %s", http)
    if http and settings.page:
        _log.info("to try a prompt: %s://%s/", "http" if settings.tls_cert is None else "https", http)


async def keep_sampling(
    metrics: ServerMetrics,
    admission: Admission,
    decision_log: DecisionLog | None = None,
    also: Callable[[], None] = lambda: None,
) -> None:
    """Write histograms, queue, calls in flight, log, CPU and memory until cancelled, and once more then.

    Args:
        metrics: where to.
        admission: the queue.
        decision_log: what writes decisions; None where none are kept.
        also: done with each sample.
    """

    def sample() -> None:
        metrics.sample(admission.items)
        if decision_log is not None:
            metrics.logged(decision_log.written, decision_log.dropped, decision_log.untaught)
        also()

    try:
        while True:
            sample()
            await asyncio.sleep(SAMPLE_INTERVAL_S)
    finally:
        sample()
