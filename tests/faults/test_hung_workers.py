"""A worker that hangs is noticed, taken out of the port, replaced, and told; one that is only slow is let be."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.faults.test_workers import code_of, connections, eventually, is_running, workers_of
from tests.hanging import STOPPED, WAYS, hang, hanging_workers
from tests.running import (
    ANY_PORT,
    SERVING,
    ServerProcess,
    environment,
    health_of,
    route,
    serve_command,
    server_process,
)
from tests.watching import debian_program, watched_server
from turnout.serving.cli.scrape import scrape
from turnout.serving.server.heartbeat import SILENT_S

pytestmark = pytest.mark.slow

LONG_S = 60.0
SLOW_WAYS = [pytest.param(how, marks=pytest.mark.slow) for how in WAYS[2:]]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
        (tmp_path / name).mkdir()
    hanging_workers(tmp_path, monkeypatch)


def ends(url: str, cause: str) -> float:
    return scrape(url, LONG_S).total("turnout_worker_ends_total", cause=cause)


@pytest.mark.parametrize("how", [STOPPED, *WAYS[:2], *SLOW_WAYS])
def test_hung_worker_is_taken_out_of_the_port_replaced_counted_and_told(bundle_folder: Path, tmp_path: Path, how: str):
    with watched_server(bundle_folder, tmp_path / "log", workers=2) as (server, url):
        before = workers_of(server)
        hung = min(before)
        hang(hung, how)
        server.process.send_signal(signal.SIGHUP)  # one after the other: the hung one may be asked first
        assert eventually(lambda: not is_running(hung), LONG_S)
        assert eventually(lambda: f"worker {hung} hung for " in server.log.read_text(), LONG_S)
        said = server.log.read_text()
        assert ("it was stopped" in said) == (how == STOPPED)
        assert ("sitecustomize.py" in said) == (how != STOPPED)  # where it hung
        assert eventually(lambda: ends(url, "hung") == 1, LONG_S)
        assert ends(url, "ended") == 0
        assert eventually(lambda: scrape(url, LONG_S).total("turnout_worker_ready") == 2, LONG_S)
        with connections(server.address, 16) as calls:
            assert [code_of(call) for call in calls] == [grpc.StatusCode.OK] * 16
        (other,) = before - {hung}
        assert other in workers_of(server)
        assert eventually(lambda: f"[{other}] asked to reload" in server.log.read_text(), LONG_S)


@pytest.mark.parametrize(
    ("how", "listen"), [(WAYS[1], ANY_PORT), pytest.param(STOPPED, "unix:{}/socket", marks=pytest.mark.slow)]
)
def test_service_of_one_worker_that_hangs_is_replaced_by_itself(
    bundle_folder: Path, tmp_path: Path, how: str, listen: str
):
    """Nobody else answers meanwhile; the address stays, and callers come back to it."""
    at = listen.format(tmp_path)
    with watched_server(bundle_folder, tmp_path / "log", "--http", ANY_PORT, workers=1, listen=at) as (server, url):
        (hung,) = workers_of(server)
        hang(hung, how)
        assert eventually(lambda: not is_running(hung), LONG_S)
        assert eventually(lambda: answers(server.address), LONG_S)
        assert eventually(lambda: ends(url, "hung") == 1, LONG_S)
        assert f"worker {hung} hung for " in server.log.read_text()
        assert health_of(server.address) == SERVING
        http = re.findall(r"http on (\S+)", server.log.read_text())[0]
        with urllib.request.urlopen(f"http://{http}/readyz", timeout=LONG_S) as reply:
            assert reply.status == 200
        server.process.terminate()
        assert server.wait(LONG_S) == 0


def answers(address: str) -> bool:
    with contextlib.suppress(grpc.RpcError):
        return bool(route(address, 2, text="hello").model)
    return False


@contextlib.contextmanager
def busy_loops(core: int, n: int) -> Iterator[None]:
    """Keep a core busy."""
    code = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(n)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def starve(pid: int, core: int) -> None:
    """Leave the process what others leave of one core: the kernel gives it three thousandths beside one of them."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})
        os.sched_setscheduler(int(task.name), os.SCHED_IDLE, os.sched_param(0))


def test_starved_worker_is_not_a_hung_one(bundle_folder: Path, tmp_path: Path):
    core = max(os.sched_getaffinity(0))
    with watched_server(bundle_folder, tmp_path / "log", workers=2) as (server, url):
        before = workers_of(server)
        with busy_loops(core, 2):
            for pid in before:
                starve(pid, core)
            time.sleep(3 * SILENT_S)
            assert workers_of(server) == before
        assert (ends(url, "hung"), ends(url, "ended")) == (0, 0)
        assert " hung " not in server.log.read_text()


def test_worker_held_by_a_tracer_is_let_be(bundle_folder: Path, tmp_path: Path):
    strace = debian_program("strace")
    with server_process(bundle_folder, tmp_path / "log", workers=2) as server:
        before = workers_of(server)
        held = min(before)
        command = [strace, "-o", str(tmp_path / "calls"), "-e", "trace=none", "-p", str(held)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracing:
            try:
                if not eventually(lambda: "TracerPid:\t0" not in Path(f"/proc/{held}/status").read_text(), LONG_S):
                    pytest.skip("strace may not trace here")
                os.kill(held, signal.SIGSTOP)
                time.sleep(SILENT_S + 3)
                assert workers_of(server) == before
            finally:
                os.kill(held, signal.SIGCONT)
                tracing.terminate()


def test_worker_stopped_while_it_starts_ends_the_first_start(bundle_folder: Path, tmp_path: Path):
    command = serve_command(bundle_folder, workers=2)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stderr=log, stdout=subprocess.DEVNULL, env=environment())
    with process:
        try:
            starting = ServerProcess(process, "", tmp_path / "log")
            assert eventually(lambda: len(workers_of(starting)) == 2, LONG_S)
            os.kill(min(workers_of(starting)), signal.SIGSTOP)
            assert process.wait(LONG_S) == 1
        finally:
            process.kill()
    assert "it was stopped, and was killed" in (tmp_path / "log").read_text()


def test_worker_that_hangs_while_it_drains_ends_with_the_grace(bundle_folder: Path, tmp_path: Path):
    with server_process(bundle_folder, tmp_path / "log", "--grace-s", 1, workers=2) as server:
        workers = workers_of(server)
        hang(min(workers), WAYS[1])
        server.process.terminate()
        started_s = time.monotonic()
        assert server.wait(LONG_S) == 1
        # Lame duck, grace, `KILL_AFTER_S`, a busy machine; the worker hangs for good.
        assert time.monotonic() - started_s < 0.2 + 1 + 2 + 50
        assert eventually(lambda: not any(map(is_running, workers)), LONG_S)


def test_supervisor_that_stands_still_costs_no_call_and_no_worker(bundle_folder: Path, tmp_path: Path):
    with server_process(bundle_folder, tmp_path / "log", workers=2) as server:
        before = workers_of(server)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(SILENT_S + 3)
        assert route(server.address, LONG_S, text="hello").model
        server.process.send_signal(signal.SIGCONT)
        time.sleep(SILENT_S)
        assert workers_of(server) == before
        assert health_of(server.address) == SERVING
