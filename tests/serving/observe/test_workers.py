"""Counts of several workers, of which one is killed and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import prometheus_client  # noqa: F401  # first here: imported while a folder is named, it counts there for ever
import pytest

from turnout.serving.cli.scrape import Snapshot, scrape
from turnout.serving.observe.exposition import (
    FOLDER_VARIABLE,
    Exposition,
    forget_worker,
    shared_folder,
    start_exposition,
)

PREFIX = "turnout_"
WORKER = """
import sys
from pathlib import Path
from turnout.serving.bundles.bundle import read_manifest
from turnout.serving.decision.decision import Decision, Reason, Route
from turnout.serving.router.model import Stage
from turnout.serving.observe.metrics import ServerMetrics
from turnout.serving.wire.route import Timings

metrics = ServerMetrics()
metrics.ready(is_ready=True)
metrics.serves([read_manifest(Path(sys.argv[1]))])
decision = Decision(Route.WEAK, "gpt-4o-mini", 0.9, 0.9, 0.75, "max_worse=0.01", Reason.MODEL, Stage.FAST)
total = 0
for line in sys.stdin:
    for _ in range(int(line)):
        metrics.decided(decision, "tiny/1", Timings(1000, 1000, 1000))
    total += int(line)
    metrics.sample(queue_items=total)
    print(line, end="", flush=True)
"""


class Worker:
    """A process that counts with `ServerMetrics` as many decisions as it is told to, and answers when it has."""

    def __init__(self, bundle_folder: Path) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(bundle_folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def count(self, decisions: int) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(decisions, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == f"{decisions}\n"

    def kill(self) -> int:
        self.process.send_signal(signal.SIGKILL)
        self.close()
        return self.process.pid

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


Start = Callable[[], contextlib.AbstractContextManager[Worker]]


@pytest.fixture
def worker(bundle_folder: Path) -> Start:
    """Return a function that starts a worker; closed at the end of its `with`."""

    def start() -> contextlib.AbstractContextManager[Worker]:
        return contextlib.closing(Worker(bundle_folder))

    return start


@pytest.fixture
def exposition() -> Iterator[Exposition]:
    with shared_folder():
        started = start_exposition("127.0.0.1:0")
        yield started
        started.close()


def levels(seen: Snapshot) -> tuple[float, float, int, float]:
    """Return what gauges say: queue of all workers, workers ready, series by worker, bundles served."""
    return (
        seen.total(f"{PREFIX}queue_items"),
        seen.total(f"{PREFIX}worker_ready"),
        len({series.labels["pid"] for series in seen.matching(f"{PREFIX}worker_start_time_seconds")}),
        seen.total(f"{PREFIX}bundle_info", bundle="tiny/1"),
    )


def test_sums_hold_over_a_killed_and_restarted_worker(exposition: Exposition, worker: Start):
    def decisions() -> float:
        return scrape(exposition.url, 60).total(f"{PREFIX}decisions_total", route="weak", policy="max_worse=0.01")

    with worker() as first, worker() as second:
        first.count(100)
        second.count(10)
        assert decisions() == 110
        assert levels(scrape(exposition.url, 60)) == (110, 2, 2, 2)

        forget_worker(first.kill())
        seen = scrape(exposition.url, 60)
        assert decisions() == 110
        assert seen.total(f"{PREFIX}stage_seconds_count", stage="model") == 110
        assert seen.total(f"{PREFIX}p_match_ratio_bucket", le="+Inf") == 110
        assert levels(seen) == (10, 1, 1, 1)

        with worker() as third:
            third.count(5)
            assert decisions() == 115
            assert levels(scrape(exposition.url, 60)) == (15, 2, 2, 2)


def test_a_killed_worker_loses_no_count_that_it_took(exposition: Exposition, worker: Start):
    with worker() as running:
        for _ in range(20):
            running.count(1)
        running.kill()
    assert scrape(exposition.url, 60).total(f"{PREFIX}decisions_total") == 20


def test_supervisor_is_not_exposed_as_a_worker(exposition: Exposition):
    assert scrape(exposition.url, 60).series == ()


def test_a_new_server_counts_from_zero_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, worker: Start
):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with shared_folder() as first:
        assert os.environ[FOLDER_VARIABLE] == str(first)
        with worker() as running:
            running.count(3)
        assert list(first.iterdir())
    with shared_folder() as second:
        assert list(second.iterdir()) == []
    assert os.environ[FOLDER_VARIABLE] == str(tmp_path)
    assert not first.exists()
