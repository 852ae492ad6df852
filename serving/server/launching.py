"""Starts the service: in this process for one worker, else a supervisor with its workers.

Imports no model before it is known that this process is to have one.
"""

from __future__ import annotations

import logging
import os
import sys

from serving.server.config import ServerSettings
from serving.server.sources import Sources

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s[%(process)d] %(message)s"


def usable_cores() -> int:
    """Return how many cores this process may run on; a quota of CPU time does not show in it."""
    return len(os.sched_getaffinity(0))


def log_to_stderr() -> None:
    """Send the log to stderr, with the process in each line: workers share one stream."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT)


def serve(sources: Sources, settings: ServerSettings, workers: int) -> int:
    """Serve bundles until SIGTERM or SIGINT and return the exit code.

    Prints one line to stdout when all workers are warm, `turnout: serving <name/version> on <host:port>`.

    Raises:
        SettingsRefused: a setting can't work, such as an address of another machine.
        BundleRefused: a bundle can't be served.
        PortTaken: another process listens on that address.
    """
    log_to_stderr()
    if workers == 1:
        from serving.server.running import run  # noqa: PLC0415  # brings onnxruntime

        run(sources, settings)
    from serving.server.supervisor import supervise  # noqa: PLC0415  # not needed with one worker

    return supervise(sources, settings, workers)


def ready_line(bundle_id: str, listen: str) -> str:
    """Return the one line of a service that is ready; scripts take the address from its last word."""
    return f"turnout: serving {bundle_id} on {listen}"
