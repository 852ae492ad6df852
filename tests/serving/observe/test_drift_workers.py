"""Drift of several workers is that of their traffic together, whoever of them saw which callers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import prometheus_client  # noqa: F401  # first here: imported while a folder is named, it counts there for ever
import pytest

from turnout.serving.bundles.limits import MIN_ROWS
from turnout.serving.cli.scrape import Snapshot, scrape
from turnout.serving.observe.exposition import Exposition, forget_worker, shared_folder, start_exposition

WORKER = """
import sys
import numpy as np
from turnout.serving.observe.drift.window import RequestWindow
from turnout.serving.observe.metrics import ServerMetrics
from tests.drift_builders import made_up_baseline, traffic

metrics, baseline = ServerMetrics(), made_up_baseline()
p_match, structural = traffic(np.random.default_rng(5), 1200)
values = np.column_stack((p_match, structural, np.zeros(p_match.size)))
order = np.argsort(structural[:, 0])
halves = {"short": order[:600], "long": order[600:]}
window = RequestWindow(baseline)
window.add(values[halves[sys.argv[1]]])
metrics.drift_baseline("b/1", baseline)
metrics.drift_window("b/1", baseline, window.counts())
print("shown", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def started(half: str) -> Iterator[subprocess.Popen[str]]:
    """Run a worker whose callers send the shorter or the longer half of the usual traffic."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WORKER, half]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "shown\n"
        yield worker
        worker.kill()


def over_limit(seen: Snapshot, measure: str) -> float:
    value, limit = (
        seen.total(f"turnout_{name}", bundle="b/1", measure=measure) for name in ("drift_ratio", "drift_limit_ratio")
    )
    return value / limit


@pytest.fixture
def exposition() -> Iterator[Exposition]:
    with shared_folder():
        started = start_exposition("127.0.0.1:0")
        yield started
        started.close()


def test_halves_of_the_usual_traffic_are_the_usual_traffic(exposition: Exposition):
    with started("long") as long:
        with started("short") as short:
            together = scrape(exposition.url, 60)
            assert over_limit(together, "log_tokens") < 1
            assert together.total("turnout_drift_window_requests", measure="p_match") == 1200 > 2 * MIN_ROWS
            assert len(list(together.matching("turnout_drift_ratio"))) == 18
        forget_worker(short.pid)
        assert over_limit(scrape(exposition.url, 60), "log_tokens") > 1
    forget_worker(long.pid)
    assert not list(scrape(exposition.url, 60).matching("turnout_drift_ratio"))
