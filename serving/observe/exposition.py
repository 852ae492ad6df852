"""Metrics over HTTP, from the one process that serves or from the supervisor, for all its workers.

Workers write their counts into files of one folder (`shared_folder`); a scrape adds the files up. The
counts of a dead worker stay, so that sums never fall; its gauges go with `forget_worker`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from turnout.serving.errors import EXIT_PORT_TAKEN, TurnoutError
from turnout.serving.observe.catalog import FOLDER_VARIABLE
from turnout.serving.observe.drift.derived import WithDrift
from turnout.serving.observe.owned_folder import owned_folder, restore
from turnout.serving.settings import SettingsRefused, split_address

if TYPE_CHECKING:
    from turnout.serving.observe.metrics import ServerMetrics
    from turnout.serving.observe.supervised import SupervisorCounts


_log = logging.getLogger("turnout.observe")

SILENCE_S = 10.0
"""How long a caller of the metrics port may say nothing in the middle of a request."""


class MetricsPortTaken(TurnoutError):
    """Another process listens where the metrics were to be read; exit code 4."""

    exit_code = EXIT_PORT_TAKEN


class Exposition:
    """An HTTP server on a thread of its own; `address` is where it listens, with the port it got."""

    def __init__(self, server: Any, thread: Any, host: str) -> None:
        """Take what prometheus_client started."""
        self.address = f"[{host}]:{server.server_port}" if ":" in host else f"{host}:{server.server_port}"
        self._server = server
        self._thread = thread

    @property
    def url(self) -> str:
        """Where to point Prometheus."""
        return f"http://{self.address}/metrics"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def start_exposition(
    listen: str, metrics: ServerMetrics | None = None, supervised: SupervisorCounts | None = None
) -> Exposition:
    """Serve the metrics on `host:port` until closed; port 0 takes a free one.

    Args:
        listen: the address.
        metrics: those of this process when it serves by itself; None in a supervisor, which reads the
            folder that `PROMETHEUS_MULTIPROC_DIR` names at every scrape.
        supervised: what a supervisor counts itself.

    Raises:
        MetricsPortTaken: another process listens there.
        SettingsRefused: the address can't be listened on for another reason.
    """
    from prometheus_client import start_http_server  # noqa: PLC0415  # see metrics.py

    host, port = split_address(listen)
    registry = workers_registry(os.environ[FOLDER_VARIABLE]) if metrics is None else metrics.registry
    if supervised is not None:
        registry.register(supervised)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise MetricsPortTaken(f"metrics: {listen} is taken by another process; choose another address") from None
        raise SettingsRefused(f"metrics: can't listen on {listen}: {error.strerror}") from None
    # A caller that says nothing holds a thread for so long and no longer; the library lets it for ever.
    server.RequestHandlerClass = type("Bounded", (cast("type", server.RequestHandlerClass),), {"timeout": SILENCE_S})
    return Exposition(server, thread, host)


def workers_registry(folder: str) -> Any:
    """Return a registry of its own, so that the supervisor's process is not exposed as if it served."""
    from prometheus_client import CollectorRegistry  # noqa: PLC0415  # see metrics.py
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

    registry = CollectorRegistry(support_collectors_without_names=True)
    workers = MultiProcessCollector(None, folder)  # type: ignore[no-untyped-call]
    registry.register(WithDrift(workers.collect))
    return registry


@contextlib.contextmanager
def shared_folder() -> Iterator[Path]:
    """Give the workers started within a new folder for their counts, named in the environment; removed at the end.

    A folder of a server that is gone would add its counts to those of the new one. Such folders are removed here.
    """
    with owned_folder() as name:
        before = os.environ.get(FOLDER_VARIABLE)
        os.environ[FOLDER_VARIABLE] = str(name)
        try:
            yield name
        finally:
            os.environ.pop(FOLDER_VARIABLE)
            if before is not None:
                os.environ[FOLDER_VARIABLE] = before


def keep_shared_folder() -> None:
    """Make the folder again where somebody removed it; workers put their counts there again within seconds."""
    try:
        if restore(Path(os.environ[FOLDER_VARIABLE])):
            _log.error("metrics: somebody removed %s; it is made again", os.environ[FOLDER_VARIABLE])
    except OSError as error:
        _log.error("metrics: %s can't be made again: %s", os.environ[FOLDER_VARIABLE], error.strerror)


def forget_worker(pid: int) -> None:
    """Drop the gauges of a worker that died; what it counted stays."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415  # see metrics.py

    mark_process_dead(pid, os.environ[FOLDER_VARIABLE])  # type: ignore[no-untyped-call]
