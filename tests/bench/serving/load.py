"""The scorecard's load generator for servers of any protocol: several plans, one after another, from one process.

Run as `python -m tests.bench.serving.load`: a `Session` as JSON on standard input, its `Load`s on standard output.
What is sent when, and what counts as latency, is decided by `tests.scorecard.load`; here are only other connections. A
call that is not answered counts under its error's name.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import AsyncExitStack

import msgspec
import uvloop

from tests.bench.serving.protocols import PROTOCOLS, Protocol
from tests.bench.serving.variants import ROOT
from tests.scorecard.load import Caller, Load, Plan

CALL_TIMEOUT_S = 30.0


class Session(msgspec.Struct, frozen=True):
    """Plans for one server, each with its own connections; `protocol` is one of `PROTOCOLS`."""

    protocol: str
    plans: list[Plan]


def drive(session: Session) -> list[Load]:
    """Send a session from a process of its own and wait for what became of each plan."""
    command = [sys.executable, "-m", "tests.bench.serving.load"]
    done = subprocess.run(command, input=msgspec.json.encode(session), stdout=subprocess.PIPE, check=True, cwd=ROOT)
    return msgspec.json.decode(done.stdout, type=list[Load])


class PeerCaller(Caller):
    """Calls through any protocol; plans, dice and clocks are the scorecard's."""

    def __init__(self, plan: Plan, stubs: list, protocol: Protocol) -> None:
        self._protocol = protocol
        super().__init__(plan, [stubs])

    def _request(self, text: str) -> bytes:
        return self._protocol.encode(text)

    async def _call(self, stub, text: int, intended: float) -> str:
        try:
            answer = await stub(self._raw[text], timeout=self.plan.timeout_s)
        except self._protocol.failures as error:
            return type(error).__name__
        self.answered.append((intended - self.started, (time.perf_counter() - intended) * 1e3))
        self.bundles[f"{answer.bundle} {answer.p_match:.9f}"] += 1
        return "OK"


async def send(session: Session) -> list[Load]:
    """Send the plans one after another from this event loop."""
    protocol = PROTOCOLS[session.protocol]()
    loads = []
    for plan in session.plans:
        async with AsyncExitStack() as stack:
            stubs = [await protocol.connect(stack, plan.targets[0]) for _ in range(plan.channels)]
            loads.append(await PeerCaller(plan, stubs, protocol).run())
    return loads


if __name__ == "__main__":
    given = msgspec.json.decode(sys.stdin.buffer.read(), type=Session)
    printed = memoryview(msgspec.json.encode(uvloop.run(send(given))))
    os.set_blocking(sys.stdout.fileno(), True)
    while printed:  # through Python's buffer the last kilobytes were missing in 2 of 6 runs, flushed in 1 of some 100
        printed = printed[os.write(sys.stdout.fileno(), printed) :]
