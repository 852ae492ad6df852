"""Several workers on one port: started as one, replaced when they die, stopped without a caller noticing."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import BUNDLE_ID
from tests.ports import free_port
from tests.running import SERVING, ServerProcess, environment, health_of, route, run_to_exit, server_process
from tests.watching import watched_server
from turnout.serving.bundles.bundle import GRAPH
from turnout.serving.client import Router
from turnout.serving.observe.catalog import FOLDER_VARIABLE
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.server.supervisor import FIRST_PAUSE_S, LONGEST_PAUSE_S, pause_s
from turnout.serving.server.worker_process import WorkerProcess
from turnout.serving.wire.route import ROUTE_METHOD

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
SLOW = "hello" + "?" * 20


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep lock files and metrics folders of this test's services below `tmp_path`."""
    for name in ("XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def two_workers(bundle_folder: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    with server_process(bundle_folder, tmp_path / "log", workers=2) as server:
        yield server


def workers_of(server: ServerProcess) -> set[int]:
    pid = server.process.pid
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def eventually(is_so: Callable[[], bool], timeout_s: float) -> bool:
    give_up_at = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.01)
    return True


def free_address() -> str:
    return f"127.0.0.1:{free_port()}"


@contextlib.contextmanager
def connections(address: str, n: int) -> Iterator[list[Callable[..., Any]]]:
    """Open connections of their own, which the kernel spreads over the workers; gives a `Route` for each."""
    with contextlib.ExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200)]
        channels = [stack.enter_context(grpc.insecure_channel(address, options)) for _ in range(n)]
        yield [channel.unary_unary(ROUTE_METHOD, pb.RouteRequest.SerializeToString) for channel in channels]


def code_of(call: Callable[..., Any]) -> grpc.StatusCode:
    try:
        call(pb.RouteRequest(text="hello"), timeout=60)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_one_ready_line_for_all_workers_on_the_port_found(two_workers: ServerProcess):
    assert two_workers.ready_line.startswith(f"turnout: serving {BUNDLE_ID} on 127.0.0.1:")
    assert int(two_workers.address.rsplit(":", 1)[1]) > 0
    assert len(workers_of(two_workers)) == 2
    with connections(two_workers.address, 16) as calls:
        assert [code_of(call) for call in calls] == [grpc.StatusCode.OK] * 16
    two_workers.process.terminate()
    assert two_workers.wait() == 0
    assert two_workers.process.stdout is not None
    assert two_workers.process.stdout.read() == ""


@pytest.mark.slow
@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("second", [1, 2])
def test_second_service_on_the_port_exits_4(bundle_folder: Path, tmp_path: Path, first: int, second: int):
    with server_process(bundle_folder, tmp_path / "log", workers=first) as server:
        done = run_to_exit(bundle_folder, server.address, workers=second)
        assert (done.returncode, done.stdout) == (4, "")
        assert f"{server.address} is taken by another process" in done.stderr
        assert health_of(server.address) == SERVING


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(1, 1), (2, 2), (2, 1)])
def test_of_two_services_started_at_the_same_instant_one_serves(bundle_folder: Path, workers: tuple[int, int]):
    address = free_address()
    with ThreadPoolExecutor(2) as pool, contextlib.ExitStack() as stack:
        stopping = threading.Event()

        def start(n: int) -> int:
            from tests.running import serve_command

            process = subprocess.Popen(
                serve_command(bundle_folder, address, workers=n),
                stderr=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment(),
            )
            stack.callback(process.kill)
            with process:
                if process.stdout is not None and process.stdout.readline():
                    stopping.wait(60)
                    process.terminate()
                stopping.set()
                process.communicate()
                return process.returncode

        assert sorted(pool.map(start, workers)) == [0, 4]


HOLD = """
import sys, time
from turnout.serving.access.listening import PortTaken, held_port
time.sleep(max(0, float(sys.argv[2]) - time.time()))
try:
    with held_port(sys.argv[1]):
        print("held", flush=True)
        sys.stdin.read()
except PortTaken:
    print("taken", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("second", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_of_many_that_ask_for_a_port_at_once_one_holds_it(second: str):
    first = free_address()
    addresses = [first, first.replace("127.0.0.1", second)] * 3
    at = str(time.time() + 1)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, address, at],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        for address in addresses
    ]
    said = sorted(process.stdout.readline().strip() for process in processes)
    for process in processes:
        process.communicate("")
    assert said == ["held"] + ["taken"] * 5


def test_killed_worker_is_replaced_while_the_other_answers(two_workers: ServerProcess):
    before = workers_of(two_workers)
    with connections(two_workers.address, 16) as calls:
        assert [code_of(call) for call in calls] == [grpc.StatusCode.OK] * 16
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        assert eventually(lambda: not is_running(killed), 60)
        assert grpc.StatusCode.OK in [code_of(call) for call in calls]
        assert eventually(lambda: len(workers_of(two_workers)) == 2, 60)
        assert eventually(lambda: "a worker ended (SIGKILL" in two_workers.log.read_text(), 60)
        new = (workers_of(two_workers) - before).pop()
        assert eventually(lambda: listens(new), 60)
        assert eventually(lambda: {code_of(call) for call in calls} == {grpc.StatusCode.OK}, 60)


def listens(pid: int) -> bool:
    """Whether the process has a listening socket."""
    with contextlib.suppress(FileNotFoundError):  # the worker ends just now
        tables = "".join(Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6"))
        rows = [row.split() for row in tables.splitlines()]
        listening = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A"}
        links = set()
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                links.add(str(link.readlink()))
        return bool(links & listening)
    return False


@pytest.mark.slow
def test_killed_supervisor_takes_its_workers_along_and_frees_the_port(
    slow_bundle_folder: Path, bundle_folder: Path, tmp_path: Path
):
    with (
        server_process(slow_bundle_folder, tmp_path / "log", workers=2) as server,
        ThreadPoolExecutor(4) as pool,
    ):
        workers = workers_of(server)
        calls = [pool.submit(route, server.address, text=SLOW) for _ in range(4)]
        time.sleep(0.1)
        server.process.kill()
        assert all(call.result().bundle == BUNDLE_ID for call in calls)
        assert eventually(lambda: not any(map(is_running, workers)), 60)
        with server_process(bundle_folder, tmp_path / "log2", listen=server.address, workers=2) as next_server:
            assert next_server.address == server.address


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [False, True], ids=["supervisor only", "every process, as service managers do"])
def test_stop_under_load_is_seen_by_no_caller_that_retries(bundle_folder: Path, tmp_path: Path, to_all: bool):
    with (
        server_process(bundle_folder, tmp_path / "a", workers=2) as leaving,
        server_process(bundle_folder, tmp_path / "b") as staying,
        ThreadPoolExecutor(6) as pool,
    ):
        ended = threading.Event()

        def caller() -> tuple[int, int, list[grpc.StatusCode]]:
            answered, retried, failures = 0, 0, []
            with connections(leaving.address, 1) as (first,), connections(staying.address, 1) as (second,):
                while not ended.is_set():
                    code = code_of(first)
                    if code == UNAVAILABLE:
                        retried += 1
                        code = code_of(second)
                    answered += code == grpc.StatusCode.OK
                    failures += [code] if code != grpc.StatusCode.OK else []
            return answered, retried, failures

        callers = [pool.submit(caller) for _ in range(6)]
        time.sleep(0.5)
        for pid in workers_of(leaving) if to_all else ():
            os.kill(pid, signal.SIGTERM)
        leaving.process.terminate()
        assert leaving.wait() == 0
        time.sleep(0.1)
        ended.set()
        results = [call.result() for call in callers]
    assert [failures for _, _, failures in results] == [[]] * 6
    assert all(answered for answered, _, _ in results)
    assert any(retried for _, retried, _ in results)


def test_second_signal_ends_supervisor_and_workers_long_before_the_lame_duck(slow_bundle_folder: Path, tmp_path: Path):
    with server_process(slow_bundle_folder, tmp_path / "log", workers=2, lame_duck_s=300) as server:
        workers = workers_of(server)
        server.process.terminate()
        assert eventually(lambda: "draining" in server.log.read_text(), 60)
        assert all(map(is_running, workers))
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 128 + signal.SIGTERM
        assert time.monotonic() - started < 60
        assert eventually(lambda: not any(map(is_running, workers)), 60)


def test_refused_bundle_ends_the_first_start_with_its_exit_code(bundle_folder: Path, tmp_path: Path):
    damaged = shutil.copytree(bundle_folder, tmp_path / "damaged")
    (damaged / GRAPH).unlink()
    done = run_to_exit(damaged, workers=2)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count(str(damaged / GRAPH)) == 1


def test_worker_signalled_while_it_dies_keeps_its_own_ending():
    async def killed_ending() -> tuple[int, str]:
        worker = WorkerProcess(await asyncio.create_subprocess_exec("sleep", "30", stdin=DEVNULL, stdout=PIPE))
        os.kill(worker.pid, signal.SIGKILL)
        for _ in range(2000):  # until after its death, of which the event loop has not heard yet
            worker.send(signal.SIGTERM)
        return worker.pid, (await worker.ending()).message

    for _ in range(20):
        pid, message = asyncio.run(killed_ending())
        assert message == f"SIGKILL ended worker {pid}"


@pytest.mark.slow
def test_crash_loop_is_slowed_down_and_the_rest_serves_on(bundle_folder: Path, tmp_path: Path):
    bundle = shutil.copytree(bundle_folder, tmp_path / "bundle")
    with server_process(bundle, tmp_path / "log", workers=2) as server:
        graph = (bundle / GRAPH).read_bytes()
        (bundle / GRAPH).write_bytes(graph[:-1])
        started_s = time.monotonic()
        os.kill(min(workers_of(server)), signal.SIGKILL)
        assert eventually(lambda: server.log.read_text().count("a worker ended") >= 3, 60)
        n_deaths, waited_s = server.log.read_text().count("a worker ended"), time.monotonic() - started_s
        assert n_deaths <= 2 + math.log2(1 + waited_s / FIRST_PAUSE_S)  # each pause is twice the one before
        assert str(bundle / GRAPH) in server.log.read_text()
        assert route(server.address, text="hello").bundle == BUNDLE_ID
        (bundle / GRAPH).write_bytes(graph)
        assert eventually(lambda: sum(map(listens, workers_of(server))) == 2, 60)
        server.process.terminate()
        assert server.wait() == 0


@given(st.integers(0, 1000))
def test_pause_before_a_start_grows_and_is_bounded(n: int):
    assert 0 <= pause_s(n) <= pause_s(n + 1) <= LONGEST_PAUSE_S
    assert pause_s(1) == 0


def test_hangup_reaches_one_worker_after_the_other(two_workers: ServerProcess):
    two_workers.process.send_signal(signal.SIGHUP)
    two_workers.process.send_signal(signal.SIGHUP)
    workers = workers_of(two_workers)

    def asked() -> set[int]:
        lines = [line for line in two_workers.log.read_text().splitlines() if "asked to reload" in line]
        return {pid for pid in workers for line in lines if f"[{pid}]" in line}

    assert eventually(lambda: asked() == workers, 60)
    assert workers_of(two_workers) == workers
    assert route(two_workers.address, text="hello").bundle == BUNDLE_ID


def test_hangup_does_not_end_a_single_process(bundle_folder: Path, tmp_path: Path):
    with server_process(bundle_folder, tmp_path / "log") as server:
        server.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "asked to reload" in server.log.read_text(), 60)
        assert route(server.address, text="hello").bundle == BUNDLE_ID


def counted(url: str, code: str = "OK") -> float:
    """Return how many calls of Route ended so, as a scrape adds them up over all workers."""
    text = urllib.request.urlopen(url, timeout=60).read().decode()
    samples = re.findall(rf'^turnout_rpcs_total{{code="{code}",method="Route"}} (\S+)$', text, re.MULTILINE)
    return sum(map(float, samples))


def test_counts_of_all_workers_add_up_and_outlive_a_killed_one(bundle_folder: Path, tmp_path: Path):
    with watched_server(bundle_folder, tmp_path / "log", workers=2) as (server, url):
        for _ in range(40):  # a connection each, spread by the kernel over both
            assert route(server.address, text="hello").model
        assert eventually(lambda: counted(url) == 40, 60)
        killed = workers_of(server).pop()
        os.kill(killed, signal.SIGKILL)
        assert eventually(lambda: len(workers_of(server) - {killed}) == 2, 60)
        before = counted(url)
        assert eventually(lambda: _answers(server), 60)
        assert before == 40
        assert eventually(lambda: counted(url) > 40, 60)


def _answers(server: ServerProcess) -> bool:
    try:
        return bool(route(server.address, text="hello").model)
    except grpc.RpcError:
        return False


def test_metrics_folder_is_private_and_gone_at_the_end(bundle_folder: Path, tmp_path: Path):
    with server_process(bundle_folder, tmp_path / "log", workers=2) as server:
        environments = [Path(f"/proc/{pid}/environ").read_text().split("\0") for pid in workers_of(server)]
        folders = {line.partition("=")[2] for lines in environments for line in lines if FOLDER_VARIABLE in line}
        (folder,) = map(Path, folders)
        assert folder.stat().st_mode & 0o777 == 0o700
        server.process.terminate()
        assert server.wait() == 0
    assert not folder.exists()


def connections_of(pid: int, address: str) -> int:
    """Return how many connections to the address a process holds."""
    port = f":{int(address.rsplit(':', 1)[1]):04X}"
    held = {str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir()}
    tables = (Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6"))  # gRPC's are both
    rows = [line.split() for table in tables for line in table]
    return sum(f"socket:[{row[9]}]" in held for row in rows if row[1].endswith(port) and row[3] == "01")


@pytest.mark.slow
def test_replaced_worker_gets_its_share_of_callers_that_were_there_before(bundle_folder: Path, tmp_path: Path):
    age = ("--max-connection-age-s", 1)
    with (
        server_process(bundle_folder, tmp_path / "log", *age, workers=2) as server,
        contextlib.ExitStack() as stack,
    ):
        routers = [stack.enter_context(Router(server.address, timeout_s=60)) for _ in range(16)]
        assert {router.route(text="hello").fallback_reason for router in routers} == {None}
        before = workers_of(server)
        os.kill(min(before), signal.SIGKILL)

        def has_its_share() -> bool:
            for router in routers:
                router.route(text="hello")
            new = workers_of(server) - before
            with contextlib.suppress(OSError):  # descriptors come and go
                return any(connections_of(pid, server.address) >= 3 for pid in new)
            return False

        assert eventually(has_its_share, 60)
