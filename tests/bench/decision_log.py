"""What the decision log costs: on the event loop, on its own threads, and in CPU time and calls/s of a whole server.

    python -m tests.bench.decision_log --folder /some/disk

The servers of all modes run at the same time and are called in turns. CPU time a call is the server process's own:
on a shared machine it says more than calls a second.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from serving.bundle import Bundle, load_bundle
from serving.pb import router_pb2 as pb
from serving.prompt import Prompt
from serving.registry import find_bundle
from serving.server.decision_log import Decided, DecisionLog, record_of
from serving.server.lessons import Lessons
from serving.spool.decision import LogDecisions, encode_decision
from serving.spool.writer import SpoolLimits, SpoolWriter
from serving.wire import ROUTE_METHOD
from tests.bench.spool import Load, send
from tests.decision_builders import decided
from tests.running import server_process

TEXT = " ".join(["the ferry leaves the northern pier at noon and 7 red lamps light every quiet street"] * 8)
KEY = b"k" * 32
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class RouteLoad(Load):
    """Route calls, as many as are answered."""

    @property
    def raw(self) -> bytes:
        """Bytes of one request."""
        return pb.RouteRequest(text=TEXT, request_id="a" * 32, tenant="acme", session_id="b" * 32).SerializeToString()


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--bundle", type=Path)
    arguments.add_argument("--folder", type=Path, help="where the spools go")
    arguments.add_argument("--seconds", type=float, default=3.0)
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    folder = find_bundle(given.bundle)
    bundle = load_bundle(folder)
    features = bundle.model.featurize(decided(TEXT).call.prompt)
    one = decided(TEXT, features=features)
    print(f"{os.cpu_count()} cores; a prompt of {len(TEXT)} characters, {features.buckets.size} buckets")
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
        _whole_servers(folder, Path(spools), given.seconds, given.rounds)


def _lessons(bundle: Bundle) -> None:
    """Print the CPU time of what a row is learned from, by the length of its prompt."""
    lessons = Lessons()
    for n_words in (8, 32, 128):
        prompt = Prompt(" ".join(TEXT.split()[:n_words]))
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


def _whole_servers(bundle: Path, spools: Path, seconds: float, rounds: int) -> None:
    cpu_us, per_s = defaultdict(list), defaultdict(list)
    with contextlib.ExitStack() as stack:
        servers = {}
        for mode in LogDecisions:
            options = ("--log-decisions", mode)
            log, spool = spools / f"{mode}.log", spools / mode
            servers[mode] = stack.enter_context(server_process(bundle, log, *options, spool=spool))
        for number in range(rounds):
            turns = [*servers.items()]
            for mode, server in turns[number % 4 :] + turns[: number % 4]:
                n_calls, cpu_s = _turn(server.address, server.process.pid, seconds)
                per_s[mode].append(n_calls / seconds)
                cpu_us[mode].append(cpu_s / n_calls * 1e6)
    print(f"{'mode':10s} CPU us a call   of off   calls/s")
    for mode in LogDecisions:
        pairs = zip(cpu_us[mode], cpu_us[LogDecisions.OFF], strict=True)
        ratio = statistics.median(own / off for own, off in pairs)
        print(f"{mode:10s} {statistics.median(cpu_us[mode]):13.0f} {ratio:8.3f} {statistics.median(per_s[mode]):9.0f}")


def _turn(address: str, pid: int, seconds: float) -> tuple[int, float]:
    """Return calls answered and CPU seconds of the server in one turn of load from another process."""
    context = multiprocessing.get_context("spawn")
    n_answered, started = context.Value("q", 0), context.Event()
    load = RouteLoad("routes", ROUTE_METHOD, 0)
    loading = context.Process(target=send, args=(address, load, seconds, 16, n_answered, started))
    loading.start()
    started.wait()
    before_s = _cpu_s(pid)
    loading.join()
    return n_answered.value, _cpu_s(pid) - before_s


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


if __name__ == "__main__":
    sys.exit(main())
