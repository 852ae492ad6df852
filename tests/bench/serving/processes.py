"""One variant as a process of its own: started, seen answering, its memory and CPU read, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import psutil

from tests.bench.serving.protocols import PROTOCOLS
from tests.bench.serving.variants import PACKAGE, ROOT, Variant

START_LIMIT_S = 120.0
RETRY_S = 0.01
FIRST_PROMPT = "Which of the two ferries leaves first?"
UPSTREAM = Variant(
    name="upstream", what="stub upstream", command=("-m", f"{PACKAGE}.upstream", "{port}"), protocol="upstream"
)


class NotMeasured(Exception):
    """A variant ended, or gave no answer; the message ends with the last that it printed."""


@dataclass(frozen=True, slots=True)
class Running:
    """A variant that has answered once.

    Attributes:
        target: `host:port`; empty in process.
        start_s: from the start of the process to its first answer.
    """

    process: subprocess.Popen[str]
    target: str
    start_s: float

    def pss_mib(self) -> float:
        """Memory of the process and its children; pages shared with others count in part (PSS)."""
        return sum(one.memory_full_info().pss for one in self._family()) / 2**20

    def cpu_s(self) -> float:
        """CPU time of the process and its children so far, user and system."""
        times = [one.cpu_times() for one in self._family()]
        return sum(one.user + one.system for one in times)

    def end(self) -> None:
        """Kill it and its children: nothing here has state that matters."""
        for one in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.process.wait()

    def _family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        return []


@contextlib.contextmanager
def running(variant: Variant, upstream: str = "") -> Iterator[Running]:
    """Start a variant and wait for its first answer; end it with the block.

    Raises:
        NotMeasured: it ended or gave no answer within `START_LIMIT_S`.
    """
    ports = _free_ports(3)
    words = {"port": ports[0], "port_2": ports[1], "port_3": ports[2], "upstream": upstream}
    target = f"127.0.0.1:{ports[0]}" if variant.protocol else ""
    with tempfile.TemporaryFile("w+") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            _command(variant, words),
            cwd=ROOT,
            stdin=-1,
            stdout=-1 if not target else log,
            stderr=log,
            text=True,
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / '.imports'}"} | _filled(variant.environ, words),
        )
        alive = Running(process, target, 0.0)
        try:
            if not _has_answered(variant, alive):
                log.seek(0)
                raise NotMeasured(f"{variant.name}: no answer in {START_LIMIT_S:.0f} s: {log.read()[-1000:]}")
            yield Running(process, target, time.perf_counter() - started)
        finally:
            alive.end()


def _command(variant: Variant, words: dict[str, object]) -> list[str]:
    module = () if variant.protocol else ("-m", f"{PACKAGE}.in_process")
    return [variant.python, *module, *(part.format(**words) for part in variant.command)]


def _filled(environ: dict[str, str], words: dict[str, object]) -> dict[str, str]:
    return {name: value.format(**words) for name, value in environ.items()}


def _has_answered(variant: Variant, alive: Running) -> bool:
    if variant.protocol is None:
        return alive.process.stdout.readline().strip() == "ready"
    return asyncio.run(_first_answer(variant.protocol, alive))


async def _first_answer(protocol_name: str, alive: Running) -> bool:
    protocol = PROTOCOLS[protocol_name]()
    deadline = time.perf_counter() + START_LIMIT_S
    while time.perf_counter() < deadline and alive.process.poll() is None:
        await asyncio.sleep(RETRY_S)
        if not _accepts(alive.target):  # gRPC itself would wait a second before it tries again
            continue
        async with AsyncExitStack() as stack:
            call = await protocol.connect(stack, alive.target)
            with contextlib.suppress(*protocol.failures):
                await call(protocol.encode(FIRST_PROMPT), timeout=START_LIMIT_S)
                return True
    return False


def _accepts(target: str) -> bool:
    host, _, port = target.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def _free_ports(n_ports: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n_ports)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
