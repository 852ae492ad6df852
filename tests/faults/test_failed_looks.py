"""A server at the limit of its descriptors: it sees nothing new, refuses nothing, and goes on where it was after it."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest

from tests.builders import point_to, tiny_bundle
from tests.faults.test_workers import eventually, workers_of
from tests.running import route
from tests.watching import watched_server
from turnout.serving.cli.scrape import scrape

LONG_S = 60.0


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_at_the_limit_of_descriptors_nothing_is_refused_and_nothing_ends(tmp_path: Path, workers: int):
    entry, rules = tmp_path / "tiny", tmp_path / "rules.toml"
    tiny_bundle(entry / "1", version="1")
    tiny_bundle(entry / "2", version="2", bias=2.0)
    point_to(entry, "1")
    rules.write_text("")
    options = ("--rules", str(rules))
    with watched_server(entry, tmp_path / "log", *options, workers=workers) as (server, url):

        def total(name: str, **labels: str) -> float:
            return scrape(url, LONG_S).total(f"turnout_{name}", **labels)

        pids = [server.process.pid, *(workers_of(server) if workers else ())]
        limits = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
        for pid, (_, hard) in limits.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
        time.sleep(4)
        for pid, limit in limits.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
        assert eventually(lambda: total("reloads_total", result="unread") >= 1, LONG_S)
        assert total("reloads_total", result="refused") == 0
        point_to(entry, "2")
        assert eventually(lambda: route(server.address, LONG_S, text="hello").bundle == "tiny/2", LONG_S)
        cpu_s = total("worker_cpu_seconds_total")
        for _ in range(50):
            route(server.address, LONG_S, text="hello")
        assert eventually(lambda: total("worker_cpu_seconds_total") > cpu_s, LONG_S)  # what samples is still there
        rules.write_text("polcy = 1")
        assert eventually(lambda: total("reloads_total", kind="rules", result="refused") == max(workers, 1), LONG_S)
        assert total("worker_ends_total") == 0
