"""Three replicas that tests can kill and start again, the shipped nginx.conf in front of them, and callers."""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

import turnout.serving.gateways
from tests.builders import tiny_bundle
from tests.ports import free_port
from tests.running import ANY_PORT, ServerProcess, server_process
from tests.watching import debian_program
from turnout.serving.client import Router

CONFIGURATION = Path(turnout.serving.gateways.__file__).with_name("nginx.conf")


@dataclass
class Replicas:
    """Servers that name themselves by their bundle, `replica-0/1` and so on."""

    scratch: Path
    stack: ExitStack
    folders: list[Path]
    running: list[ServerProcess] = field(default_factory=list)

    @property
    def addresses(self) -> list[str]:
        return [one.address for one in self.running]

    def start(self, number: int, listen: str = ANY_PORT) -> ServerProcess:
        log = self.scratch / f"replica-{number}-{time.monotonic_ns()}.log"
        return self.stack.enter_context(server_process(self.folders[number], log, listen=listen, lame_duck_s=0.3))

    def kill_and_restart(self, number: int) -> None:
        leaving = self.running[number]
        leaving.process.kill()
        leaving.wait()
        self.running[number] = self.start(number, leaving.address)

    def drain_and_restart(self, number: int) -> int:
        leaving = self.running[number]
        leaving.process.terminate()
        code = leaving.wait(60)
        self.running[number] = self.start(number, leaving.address)
        return code


@contextlib.contextmanager
def replicas(scratch: Path, n: int = 3, folder: Path | None = None) -> Iterator[Replicas]:
    """Start replicas, of tiny bundles unless a bundle is given."""
    with ExitStack() as stack:
        folders = [folder or tiny_bundle(scratch / f"b{k}", name=f"replica-{k}") for k in range(n)]
        made = Replicas(scratch, stack, folders)
        made.running += [made.start(number) for number in range(n)]
        yield made


@contextlib.contextmanager
def nginx_before(addresses: list[str], scratch: Path) -> Iterator[str]:
    """Run nginx with the shipped configuration, but for ports and files; gives its address."""
    program = debian_program("nginx")
    address = f"127.0.0.1:{free_port()}"
    text = CONFIGURATION.read_text("utf-8").replace("127.0.0.1:50150", address)
    text = text.replace("/run/turnout-nginx.pid", str(scratch / "nginx.pid"))
    server_lines = iter(re.findall(r"server 127\.0\.0\.1:5015[123] ", text))
    for upstream in addresses:
        text = text.replace(next(server_lines), f"server {upstream} ")
    for unused in server_lines:
        text = re.sub(rf"^ *{re.escape(unused)}.*\n", "", text, flags=re.MULTILINE)
    paths = "".join(
        f"    {kind}_temp_path {scratch / kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = text.replace("http {\n", "http {\n" + paths, 1)
    file = scratch / "nginx.conf"
    file.write_text(text)
    command = [program, "-p", str(scratch), "-c", str(file), "-g", "daemon off;"]
    with (scratch / "nginx.log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            _wait_for(address, process, scratch / "nginx.log")
            yield address
        finally:
            process.terminate()


@dataclass
class Called:
    """What became of all calls: answers by bundle, and fallbacks by reason."""

    answered: Counter[str] = field(default_factory=Counter)
    fallbacks: Counter[str] = field(default_factory=Counter)


@contextlib.contextmanager
def calling(target: str, n_callers: int = 4, **options: Any) -> Iterator[Called]:
    """Call from some threads, each with a client of its own, until the end of the `with`."""
    called, done = Called(), threading.Event()

    def call() -> None:
        with Router(target, timeout_s=60.0, **options) as router:
            while not done.is_set():
                called.answered[router.route(text="hello").bundle] += 1
                time.sleep(0.002)
            called.fallbacks.update(router.fallbacks)

    with ThreadPoolExecutor(n_callers) as pool:
        running = [pool.submit(call) for _ in range(n_callers)]
        try:
            yield called
        finally:
            done.set()
        for one in running:
            one.result()


def until_answered_by(called: Called, bundles: set[str], timeout_s: float = 60) -> None:
    """Wait until each of the bundles has answered once more."""
    before = dict(called.answered)
    give_up_at = time.monotonic() + timeout_s
    while any(called.answered[name] == before.get(name, 0) for name in bundles):
        assert time.monotonic() < give_up_at, f"answered before {before}, now {dict(called.answered)}"
        time.sleep(0.02)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(60)
        except grpc.FutureTimeoutError:
            raise AssertionError(f"nginx (exit code {process.poll()}): {log.read_text()}") from None
