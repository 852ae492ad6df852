"""One of several workers on a port; run as `python -m turnout.serving.server.worker` by the supervisor.

    order on stdin -> load -> warm up -> bind -> Ready -> (Beat | SIGHUP -> reload -> Reloaded)* -> SIGTERM -> drain

It binds when it is warm and not before: the kernel sends new connections to whoever listens, and the
other workers can answer them meanwhile. At `STACKS_SIGNAL` the interpreter writes where all threads are into the
reports, without running any Python: that is how a hung worker still tells where it hangs.
"""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import faulthandler
import os
import signal
import sys
from typing import BinaryIO

from turnout.serving.errors import EXIT_OK, TurnoutError
from turnout.serving.observe.logs import set_up_logging
from turnout.serving.server.loop import fast_loop
from turnout.serving.server.observing import Observation, observation
from turnout.serving.server.orders import (
    STACKS_SIGNAL,
    Beat,
    Order,
    Ready,
    Refused,
    Reloaded,
    Report,
    order_of,
    to_line,
)
from turnout.serving.server.running import RouterServer, leave, reload_on_hangup
from turnout.serving.service.lifecycle import Lifecycle

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Work off the order on standard input; return the exit code of the process."""
    line = sys.stdin.buffer.readline()
    if not line:  # the supervisor died before it could say anything
        return EXIT_OK
    order = order_of(line)
    set_up_logging(order.observe.log_format)
    if not _ends_with(order.supervisor_pid):
        return EXIT_OK
    with _report_stream() as reports:
        faulthandler.register(STACKS_SIGNAL, reports, all_threads=True)
        try:
            unexposed = dataclasses.replace(order.observe, metrics="")  # the supervisor shows all workers' metrics
            with observation(unexposed) as observed, asyncio.Runner(loop_factory=fast_loop()) as runner:
                runner.run(_serve(order, reports, observed))
                observed.close()
                leave(EXIT_OK)
        except TurnoutError as error:
            _report(reports, Refused(str(error), error.exit_code))
            return error.exit_code


def _ends_with(supervisor_pid: int) -> bool:
    """Ask the kernel for SIGTERM when the supervisor dies; returns False when it is dead already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    return os.getppid() == supervisor_pid


def _report_stream() -> BinaryIO:
    """Take standard output for reports; what libraries print goes to stderr from here on.

    It never blocks: a supervisor that stands still and reads nothing is not to hang its workers too.
    """
    stream = os.fdopen(os.dup(1), "wb", buffering=0)
    os.set_blocking(stream.fileno(), False)
    os.dup2(2, 1)
    return stream


def _report(stream: BinaryIO, report: Report) -> None:
    try:
        stream.write(to_line(report))  # lost where the pipe is full
    except BrokenPipeError:
        return  # the supervisor is gone, and SIGTERM on its way


async def _serve(order: Order, reports: BinaryIO, observed: Observation) -> None:
    lifecycle = Lifecycle(order.sources, observed.metrics)
    server = RouterServer(lifecycle, order.settings, observed.tracing, shares_port=True)
    await server.warm_up()
    await server.start()
    stopping = asyncio.Event()
    # Any number of SIGTERMs is one: service managers send it to all processes, and the supervisor passes it on.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    reload_on_hangup(server, lambda: _report(reports, Reloaded()))
    _report(reports, Ready(lifecycle.lineup.default.manifest.bundle_id))
    beating = asyncio.create_task(server.soundness.beat(lambda: _report(reports, Beat())))
    await stopping.wait()
    await server.drain()
    beating.cancel()


if __name__ == "__main__":
    sys.exit(main())
