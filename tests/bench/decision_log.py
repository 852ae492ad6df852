"""What the decision log costs: on the event loop, on its own threads, and in CPU time and calls/s of a whole server.

    python -m tests.bench.decision_log --folder /some/disk

The servers of all modes run at the same time and are called in short turns; then all are started anew, for two
processes that do the same differ by some percent for as long as they live. `off again` is a second server without a
log: how far it is from 1 is what this measurement can't tell. CPU time is that of the server process, threads included.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from tests.decision_builders import decided
from tests.running import ServerProcess, server_process
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.prompt import Prompt
from turnout.serving.service.decision_log import POLL_S, Decided, DecisionLog, record_of
from turnout.serving.service.lessons import Lessons
from turnout.serving.spool.decision import LogDecisions, encode_decision
from turnout.serving.spool.writer import SpoolLimits, SpoolWriter
from turnout.serving.wire.route import ROUTE_METHOD

WORDS = ("the ferry leaves the northern pier at noon and 7 red lamps light every quiet street " * 8).split()
KEY = b"k" * 32
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


CALLERS = 16
PAUSE_S = POLL_S + 0.05
"""Before each turn: until then the log of the one before has worked off what waited."""


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--bundle", type=Path)
    arguments.add_argument("--words", type=int, default=len(WORDS), help=f"length of the prompt, at most {len(WORDS)}")
    arguments.add_argument("--folder", type=Path, help="where the spools go")
    arguments.add_argument("--seconds", type=float, default=1.0, help="of one turn")
    arguments.add_argument("--rounds", type=int, default=12, help="turns of each server")
    arguments.add_argument("--starts", type=int, default=8, help="how often the servers are started")
    given = arguments.parse_args()
    folder = find_bundle(given.bundle)
    bundle = load_bundle(folder)
    text = " ".join(WORDS[: given.words])
    features = bundle.model.featurize(Prompt(text))
    one = decided(text, features=features)
    print(f"{os.cpu_count()} cores; a prompt of {len(text)} characters, {features.buckets.size} buckets")
    with tempfile.TemporaryDirectory(dir=given.folder) as spools:
        log = DecisionLog(SpoolWriter(Path(spools) / "one", SpoolLimits()), LogDecisions.DIGEST, KEY)
        fields = (one.call, one.decision, one.manifest, one.costs, one.tokens, one.features)
        us = _us(lambda: log.log(Decided(time.time(), *fields)))
        print(f"on the loop: {us:.2f} us a decision, {log.dropped} dropped")
        log.close()
        for mode in (LogDecisions.DIGEST, LogDecisions.FULL, LogDecisions.REDACTED):
            payload = encode_decision(record_of(one, mode, KEY))
            us = _us(lambda mode=mode: encode_decision(record_of(one, mode, KEY)))  # type: ignore[misc]
            print(f"on its thread, {mode:8s}: {us:5.1f} us a decision, {len(payload)} bytes")
        _lessons(bundle)
        _whole_servers(folder, text, Path(spools), given.seconds, given.rounds, given.starts)


def _lessons(bundle: Bundle) -> None:
    """Print the CPU time of what a row is learned from, by the length of its prompt."""
    lessons = Lessons()
    for n_words in (8, 32, 128):
        prompt = Prompt(" ".join(WORDS[:n_words]))
        features = bundle.model.featurize(prompt)
        lessons.of(bundle, prompt, features)
        started_s = time.process_time()
        for _ in range(100):
            lessons.of(bundle, prompt, features)
        ms = 1e3 * (time.process_time() - started_s) / 100
        print(f"a lesson of {features.token_ids.size} word pieces, both answers wanted: {ms:.1f} ms of CPU")
    lessons.close()


def _us(run: Callable[[], object]) -> float:
    """Return the fastest of 20 means over 200 runs (fewer than the log's queue holds), in microseconds."""
    times = []
    for _ in range(20):
        started_s = time.perf_counter()
        for _ in range(200):
            run()
        times.append((time.perf_counter() - started_s) / 200)
        time.sleep(0.05)
    return float(np.min(times) * 1e6)


def _whole_servers(bundle: Path, text: str, spools: Path, seconds: float, rounds: int, starts: int) -> None:
    """Print CPU time a call and calls/s by mode, and their ratios to no log: mean and standard error over starts."""
    cpu_us, per_s = defaultdict(list), defaultdict(list)
    context = multiprocessing.get_context("spawn")
    for number in range(starts):
        with _servers(bundle, spools / str(number)) as servers, ProcessPoolExecutor(1, context) as load:
            before_s = {name: _cpu_s(server) for name, server in servers.items()}
            addresses = {name: server.address for name, server in servers.items()}
            n_calls = load.submit(_calls, addresses, text, seconds, rounds).result()
            for name, server in servers.items():
                cpu_us[name].append(1e6 * (_cpu_s(server) - before_s[name]) / sum(n_calls[name]))
                per_s[name].append(statistics.median(n_calls[name][1:]) / seconds)  # the first turn is slower
        print(f"start {number + 1} of {starts}: {cpu_us['off'][-1]:.0f} us of CPU a call without a log", flush=True)
    print(f"{'mode':10s} CPU us a call  of off          calls/s  of off")
    for name in cpu_us:
        cpu, rate = _of_off(cpu_us, name), _of_off(per_s, name)
        print(f"{name:10s} {np.mean(cpu_us[name]):13.0f}  {cpu}  {np.mean(per_s[name]):8.0f}  {rate}")


@contextlib.contextmanager
def _servers(bundle: Path, folder: Path) -> Iterator[dict[str, ServerProcess]]:
    """Start a server for each mode, and one more without a log."""
    folder.mkdir()
    modes = {"off": LogDecisions.OFF, "off again": LogDecisions.OFF} | {
        str(mode): mode for mode in LogDecisions if mode is not LogDecisions.OFF
    }
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(
                server_process(bundle, folder / f"{name}.log", "--log-decisions", mode, spool=folder / name)
            )
            for name, mode in modes.items()
        }


def _calls(addresses: dict[str, str], text: str, seconds: float, rounds: int) -> dict[str, list[int]]:
    """Call the servers with a text in turns, as fast as they answer; return the calls of each turn by server."""
    raw = pb.RouteRequest(text=text, request_id="a" * 32, tenant="acme", session_id="b" * 32).SerializeToString()
    n_calls = defaultdict(list)

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            channels = {name: grpc.aio.insecure_channel(address) for name, address in addresses.items()}
            for channel in channels.values():
                await stack.enter_async_context(channel)
            names = [*addresses]
            for number in range(rounds):
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    await asyncio.sleep(PAUSE_S)
                    one = (channels[name].unary_unary(ROUTE_METHOD), raw, time.perf_counter() + seconds)
                    n_calls[name].append(sum(await asyncio.gather(*(_caller(*one) for _ in range(CALLERS)))))

    asyncio.run(run())
    return n_calls


async def _caller(call: Any, raw: bytes, ends_s: float) -> int:
    n_done = 0
    while time.perf_counter() < ends_s:
        await call(raw)
        n_done += 1
    return n_done


def _cpu_s(server: ServerProcess) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def _of_off(figures: dict[str, list[float]], name: str) -> str:
    ratios = np.divide(figures[name], figures["off"])
    error = ratios.std(ddof=1) / np.sqrt(ratios.size) if ratios.size > 1 else np.nan
    return f"{ratios.mean():.3f} ± {error:.3f}"


if __name__ == "__main__":
    sys.exit(main())
