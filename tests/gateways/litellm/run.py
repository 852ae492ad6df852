"""One run of the proxy with everything that is asked of it, gathered for the tests: routes, faults, latency, logs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai

from tests.gateways.litellm.requests import WAYS, Request, requests, unstreamed
from tests.gateways.litellm.running import Proxy, free_ports, running_proxy
from tests.running import ServerProcess, serve_command, started
from turnout.serving.bundles.registry import find_bundle

N_REQUESTS = 300
AT_ONCE = 8
N_ROUNDS = 40
N_FAULTY = 6
DIRECT = "gpt-4o"
STILL_S = 5.0
"""LiteLLM sends its logs once a second: as long without any is their end."""
RULES = """
out_of_distribution = "model"
[[rules]]
name = "about half"
threshold = 0.83
"""
"""The sample is unlike what the champion was trained on: by its own policy all of it would go strong."""
TOKEN_DIGEST = hashlib.sha256(b"turnout_nobody-has-it").hexdigest()


@dataclass(frozen=True)
class Called:
    """One call through the proxy: what came of it and how long it took, in seconds."""

    request: Request
    text: str
    seconds: float


@dataclass
class Run:
    """What was seen.

    Attributes:
        healthy, hung, resumed, stopped, refusing: the calls while Turnout was so.
        seconds: of calls in turns, by the name that was asked for; `gpt-4o` is asked without any routing.
        upstream: what the vendor was asked, by the mark of the request.
        logs: LiteLLM's own.
    """

    healthy: list[Called] = field(default_factory=list)
    hung: list[Called] = field(default_factory=list)
    resumed: list[Called] = field(default_factory=list)
    stopped: list[Called] = field(default_factory=list)
    refusing: list[Called] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    expected: dict[str, str] = field(default_factory=dict)
    upstream: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: Path = Path()

    @property
    def calls(self) -> list[Called]:
        return [*self.healthy, *self.hung, *self.resumed, *self.stopped, *self.refusing]

    def p50_ms(self, name: str) -> float:
        return statistics.median(self.seconds[name]) * 1e3


class Caller:
    """Calls the proxy as any user of the OpenAI SDK does."""

    def __init__(self, proxy: Proxy) -> None:
        self._client = openai.AsyncOpenAI(base_url=proxy.url, api_key=proxy.key, max_retries=0, timeout=20)

    async def call(self, request: Request, model: str = "") -> Called:
        began = time.perf_counter()
        create = self._client.chat.completions.create
        reply = await create(model=model or request.way, user=request.user, **request.body)
        if request.body.get("stream"):
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in reply if chunk.choices])
        else:
            text = reply.choices[0].message.content
        return Called(request, text, time.perf_counter() - began)

    async def all(self, wanted: list[Request]) -> list[Called]:
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(request: Request) -> Called:
            async with turn:
                return await self.call(request)

        return list(await asyncio.gather(*(one(request) for request in wanted)))

    async def one_by_one(self, wanted: list[Request]) -> list[Called]:
        return [await self.call(request) for request in wanted]

    async def in_turns(self, rounds: list[Request]) -> dict[str, list[float]]:
        names = (DIRECT, *WAYS)
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for request in rounds:
            for name in names:
                seconds[name].append((await self.call(request, name)).seconds)
        return seconds

    async def close(self) -> None:
        await self._client.close()


def marked(prefix: str, n_requests: int, seed: int) -> list[Request]:
    return [unstreamed(one, f"{prefix}-{one.user}") for one in requests(n_requests, seed)]


def gather(folder: Path, expect: Any) -> Run:
    """Do the whole run. `expect` is told the address of Turnout and the requests; it returns the models of Route."""
    run = Run(logs=folder / "logs.jsonl")
    grpc_port, http_port = free_ports(2)
    addresses = f"127.0.0.1:{grpc_port}", f"127.0.0.1:{http_port}"
    with contextlib.ExitStack() as stack:
        (folder / "rules.toml").write_text(RULES)
        turnout = stack.enter_context(serving(folder, *addresses, "--rules", folder / "rules.toml"))
        proxy = stack.enter_context(running_proxy(folder, *addresses))
        healthy, resumed = requests(N_REQUESTS, seed=5), marked("resumed", N_FAULTY, 6)
        run.expected = expect(addresses[0], [*healthy, *resumed])
        asyncio.run(_call_all(run, proxy, turnout, healthy, resumed))
        with serving(folder, *addresses, *refusing_options(folder)):
            asyncio.run(_call_refusing(run, proxy))
        wait_for_logs(run)
    run.upstream = {row["user"]: row for row in lines_of(folder / "requests.jsonl")}
    return run


async def _call_all(
    run: Run, proxy: Proxy, turnout: ServerProcess, healthy: list[Request], resumed: list[Request]
) -> None:
    caller = Caller(proxy)
    await caller.one_by_one(marked("warm", 6, 7))
    run.healthy = await caller.all(healthy)
    run.seconds = await caller.in_turns(marked("turn", N_ROUNDS, 8))
    turnout.process.send_signal(signal.SIGSTOP)
    run.hung = await caller.one_by_one(marked("hung", len(WAYS) * N_FAULTY, 9))
    turnout.process.send_signal(signal.SIGCONT)
    await asyncio.sleep(6)  # past the circuit breaker's 5 s
    run.resumed = await caller.one_by_one(resumed)
    turnout.process.kill()
    turnout.wait()
    run.stopped = await caller.one_by_one(marked("stopped", len(WAYS) * N_FAULTY, 10))
    await caller.close()


async def _call_refusing(run: Run, proxy: Proxy) -> None:
    caller = Caller(proxy)
    await asyncio.sleep(2)  # past the wait of a client that was refused a connection
    run.refusing = await caller.one_by_one(marked("refusing", len(WAYS) * N_FAULTY, 11))
    await caller.close()


@contextlib.contextmanager
def serving(folder: Path, listen: str, http: str, *options: object) -> Iterator[ServerProcess]:
    with started(serve_command(find_bundle(None), listen, "--http", http, *options), folder / "turnout.log") as running:
        yield running


def refusing_options(folder: Path) -> tuple[str, str]:
    """Return the options of a server that lets nobody in."""
    path = folder / "tokens.toml"
    path.write_text(f'[[token]]\nname = "nobody"\nsha256 = "{TOKEN_DIGEST}"\nmethods = ["*"]\n')
    return "--tokens", str(path)


def wait_for_logs(run: Run) -> None:
    """Wait until LiteLLM has sent its logs: it does so in batches."""
    size, since = -1, time.monotonic()
    while time.monotonic() - since < STILL_S:
        if run.logs.stat().st_size != size:
            size, since = run.logs.stat().st_size, time.monotonic()
        time.sleep(0.2)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]
