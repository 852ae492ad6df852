"""How far apart beats of healthy workers come, and how much silence is counted of it: what `SILENT_S` stands on.

    python -m tests.bench.heartbeat [--seconds 30]

Two workers with the bundle that ships, a reload every five seconds: under more calls than they can answer, and starved,
by the kernel's lowest priority beside two busy loops on the one core that they may use.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import grpc

from tests.faults.test_hung_workers import busy_loops, starve
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.observe.settings import ObserveSettings
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.server import worker_process
from turnout.serving.server.heartbeat import Pulse
from turnout.serving.server.supervisor import supervise
from turnout.serving.settings import ServerSettings, Sources
from turnout.serving.wire.route import ROUTE_METHOD

WORDS = "the ferry leaves at noon and the next one an hour later, if there is one at all on that day; " * 12


class Recorded(Pulse):
    """A pulse that keeps the longest gap and the longest silence counted, of workers that are warm."""

    gaps_s: ClassVar[list[float]] = []
    silences_s: ClassVar[list[float]] = []
    pids: ClassVar[set[int]] = set()

    def beat(self) -> None:
        """Take note, and of the time since the last one."""
        now_s = time.monotonic()
        if not self.is_starting:
            self.gaps_s.append(now_s - self.last_s)
            self.silences_s.append(self.silent_s)
        self.pids.add(self._pid)
        self.last_s = now_s
        super().beat()


def call_until(ended: threading.Event, address: str) -> None:
    """Call without a pause."""
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        route = channel.unary_unary(ROUTE_METHOD, pb.RouteRequest.SerializeToString)
        n = 0
        while not ended.is_set():
            n += 1
            with contextlib.suppress(grpc.RpcError):
                route(pb.RouteRequest(text=f"{n} {WORDS}"), timeout=5)


def disturb(seconds: float, address: str, during: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
    """Wait for both workers, load and disturb them, then end the service."""
    while len(Recorded.pids) < 2:
        time.sleep(0.1)
    ended = threading.Event()
    callers = [threading.Thread(target=call_until, args=(ended, address)) for _ in range(32)]
    for caller in callers:
        caller.start()
    with during():
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(5)
    ended.set()
    os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def starved():
    """Leave both workers what two busy loops leave of one core."""
    core = max(os.sched_getaffinity(0))
    with busy_loops(core, 2):
        for pid in Recorded.pids:
            starve(pid, core)
        yield


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=30.0)
    arguments.add_argument("--starved", action="store_true")
    given = arguments.parse_args()
    worker_process.Pulse = Recorded  # type: ignore[misc]
    address = "127.0.0.1:50990"
    during = starved if given.starved else contextlib.nullcontext
    disturbing = threading.Thread(target=disturb, args=(given.seconds, address, during))
    disturbing.start()
    sources = Sources(bundles=(Path(find_bundle(None)),))
    supervise(sources, ServerSettings(listen=address, grace_s=5.0), ObserveSettings(metrics=""), 2)
    disturbing.join()
    name = "starved" if given.starved else "loaded"
    gaps = sorted(Recorded.gaps_s)
    print(
        f"{name}: {len(gaps)} beats, apart at most {gaps[-1]:.2f} s, median {gaps[len(gaps) // 2]:.2f} s; "
        f"silence counted at most {max(Recorded.silences_s):.2f} s; load average {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
