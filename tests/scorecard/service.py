"""The service under test, as its operator starts it: what it counts, and what the kernel says of its processes."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.running import ServerProcess
from tests.watching import METRICS_URL, watched_server
from turnout.serving.cli.scrape import scrape

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Service:
    """A running service with metrics."""

    server: ServerProcess
    metrics_url: str

    @property
    def address(self) -> str:
        return self.server.address

    def pids(self) -> list[int]:
        """Return the processes, that which was started first."""
        pid = self.server.process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def cpu_s(self) -> float:
        """Return the CPU time that all processes took so far."""
        return sum(_cpu_s(pid) for pid in self.pids())

    def peak_rss_mib(self) -> float:
        """Return the largest resident size of any of the processes so far."""
        return max(_memory_mib(pid, "VmHWM") for pid in self.pids())

    def rss_mib(self) -> float:
        """Return the resident size of all processes."""
        return sum(_memory_mib(pid, "VmRSS") for pid in self.pids())

    def n_files(self) -> int:
        """Return the open files of all processes."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self.pids())

    def n_threads(self) -> int:
        """Return the threads of all processes."""
        return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in self.pids())

    def route_codes(self) -> Counter[str]:
        """Return the calls of Route that the service counted, by code."""
        codes: Counter[str] = Counter()
        for series in scrape(self.metrics_url, timeout_s=10).matching("turnout_rpcs_total", method="Route"):
            codes[series.labels["code"]] += int(series.value)
        return codes

    def settled(self, name: str = "turnout_rpcs_in_flight", timeout_s: float = 5) -> float:
        """Return a gauge once it is 0, or what it is when the time is up; gauges are written once a second."""
        give_up_at = time.monotonic() + timeout_s
        while (value := scrape(self.metrics_url, timeout_s=10).total(name)) and time.monotonic() < give_up_at:
            time.sleep(0.1)
        return value


@contextlib.contextmanager
def service(
    folder: Path, scratch: Path, *options: object, workers: int = 1, early_exit: bool = False
) -> Iterator[Service]:
    """Start a service on free ports, without cache; by default the encoder runs for every request."""
    log = scratch / f"server-{time.monotonic_ns()}.log"
    own = () if early_exit else ("--no-early-exit",)
    with watched_server(folder, log, *own, *map(str, options), workers=workers) as (server, url):
        assert METRICS_URL.fullmatch(url)
        yield Service(server, url)


def _cpu_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS


def _memory_mib(pid: int, name: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) / 1024
