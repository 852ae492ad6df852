"""Starts the service: a supervisor with its workers, or, where none is wanted, in this process alone.

Imports no model before it is known that this process is to have one.
"""

from __future__ import annotations

import os
import resource

from turnout.serving.observe.logs import set_up_logging
from turnout.serving.observe.settings import ObserveSettings
from turnout.serving.settings import ServerSettings, SettingsRefused, Sources, unix_path


def usable_cores() -> int:
    """Return how many cores this process may run on; a quota of CPU time does not show in it."""
    return len(os.sched_getaffinity(0))


def serve(sources: Sources, settings: ServerSettings, observe: ObserveSettings, workers: int) -> int:
    """Serve bundles until SIGTERM or SIGINT and return the exit code.

    Prints one line to stdout when all workers are warm, `turnout: serving <name/version> on <host:port>`.
    One worker has a supervisor as well, which no thread of its own could be: a library that holds the interpreter's
    lock stops them all, and what is the first process of a container can't be killed from inside of it.

    Args:
        sources: the bundles.
        settings: the server's.
        observe: metrics, log and traces.
        workers: processes that answer; 0 to answer in this one, which nobody looks after.

    Raises:
        SettingsRefused: a setting can't work, such as an address of another machine.
        BundleRefused: a bundle can't be served.
        PortTaken: another process listens on that address.
    """
    if workers > 1 and unix_path(settings.listen) is not None:
        raise SettingsRefused("listen: a unix: address is for one worker: no two processes can share it")
    set_up_logging(observe.log_format)
    _allow_descriptors()
    if workers == 0:
        from turnout.serving.server.running import run  # noqa: PLC0415  # brings onnxruntime

        run(sources, settings, observe)
    from turnout.serving.server.supervisor import supervise  # noqa: PLC0415  # not needed without workers

    return supervise(sources, settings, observe, workers)


def _allow_descriptors() -> None:
    """Let this process and its workers have as many descriptors as the system allows: most start with 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
