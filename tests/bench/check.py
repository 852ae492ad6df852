"""`Check` beside `Route` with the encoder, in turns against one server; and `Route` beside that of another checkout.

    python -m tests.bench.check [--calls 400] [--before FOLDER] [--callers 4]

Three calls of one length, over one connection, one at a time, the order turned round each time: `Route`, whose encoder
runs for every prompt; `Check` of a prompt of that many words with an answer of as many; and `Check` of half of the
words each, which is as many tokens in all as `Route` reads. FOLDER is another checkout (`git worktree add`), whose
server answers `Route` from its own champion beside ours from the same bundle, by the fast head and with the encoder.
With callers, so many others keep the encoder busy with prompts of 128 words meanwhile. Absolute times on shared
machines vary twofold; the ratios of one run hold, and CPU seconds hold better.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from tests.bench.latency import WORDS
from tests.running import ServerProcess, server_process
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.wire.route import CHECK_METHOD, ROUTE_METHOD

LENGTHS = (8, 32, 128, 512)
LIMIT = 1.2
N_WARM_UP = 20
START = "import sys; from serving.cli import main; sys.exit(main())"
"""How a checkout from before the import root was `turnout` is started."""


@dataclass(frozen=True)
class Timed:
    """One kind of call: a method of a connection, and the bytes to send."""

    method: Any
    raw: bytes

    def take_ms(self) -> float:
        """Make the call; return how long it took."""
        started = time.perf_counter()
        self.method(self.raw, timeout=20)
        return (time.perf_counter() - started) * 1e3


def main() -> int:
    """Measure and print; 1 where a median of `Check` is over 1.2 times that of `Route`."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--bundle", type=Path)
    arguments.add_argument("--calls", type=int, default=400)
    arguments.add_argument("--before", type=Path, metavar="FOLDER")
    arguments.add_argument("--callers", type=int, default=0)
    given = arguments.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, p50 of {given.calls} calls")
    ratios = checked(find_bundle(given.bundle), given.calls, given.callers)
    if given.before is not None:
        compared(given.before.resolve(), given.calls)
    return int(max(ratios) > LIMIT)


def checked(folder: Path, n_calls: int, n_callers: int = 0) -> list[float]:
    """Print a line for each length; return the ratios of the medians, `Check` to `Route`."""
    ratios = []
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        with (
            server_process(folder, log, "--no-early-exit") as server,
            grpc.insecure_channel(server.address) as channel,
            busy(server.address, n_callers),
        ):
            route, check = channel.unary_unary(ROUTE_METHOD), channel.unary_unary(CHECK_METHOD)
            for n_words in LENGTHS:
                half = max(1, n_words // 2)
                kinds = {
                    "Route": Timed(route, pb.RouteRequest(text=words(n_words)).SerializeToString()),
                    "Check": Timed(check, check_of(n_words, n_words)),
                    "Check of half": Timed(check, check_of(half, half)),
                }
                p50 = in_turns(kinds, n_calls)
                show(f"{n_words:4d} words", p50, "Route")
                ratios.append(p50["Check"] / p50["Route"])
    return ratios


@contextlib.contextmanager
def busy(address: str, n_callers: int) -> Iterator[None]:
    """Keep the encoder busy until the end of the block, each caller with one request after the other."""
    ended = threading.Event()
    raw = pb.RouteRequest(text=words(128)).SerializeToString()

    def call() -> None:
        with grpc.insecure_channel(address) as channel:
            route = channel.unary_unary(ROUTE_METHOD)
            while not ended.is_set():
                route(raw, timeout=60)

    callers = [threading.Thread(target=call, daemon=True) for _ in range(n_callers)]
    for one in callers:
        one.start()
    try:
        yield
    finally:
        ended.set()
        for one in callers:
            one.join(60)


def compared(before: Path, n_calls: int) -> None:
    """Print how `Route` does beside that of another checkout, both on the bundle of the other."""
    (bundle,) = [path.parent for path in (before / "models").glob("*/*/manifest.json")]
    for stage, option in (("FAST", "--early-exit"), ("FULL", "--no-early-exit")):
        with (
            tempfile.TemporaryDirectory() as scratch,
            server_process(bundle, Path(scratch) / "ours", option) as ours,
            other_server(before, bundle, Path(scratch) / "theirs", option) as theirs,
            grpc.insecure_channel(ours.address) as here,
            grpc.insecure_channel(theirs.address) as there,
        ):
            pids = theirs.process.pid, ours.process.pid
            for n_words in LENGTHS:
                raw = pb.RouteRequest(text=words(n_words)).SerializeToString()
                kinds = {
                    "before": Timed(there.unary_unary(ROUTE_METHOD), raw),
                    "Route": Timed(here.unary_unary(ROUTE_METHOD), raw),
                }
                began = [cpu_s(pid) for pid in pids]
                show(f"{stage} {n_words:4d} words", in_turns(kinds, n_calls), "before")
                then, now = (cpu_s(pid) - start for pid, start in zip(pids, began, strict=True))
                print(f"     CPU of the server: before {then:.2f} s, now {now:.2f} s ({now / then:.2f})", flush=True)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def in_turns(kinds: Mapping[str, Timed], n_calls: int) -> dict[str, float]:
    """Return the median milliseconds of each kind."""
    times: defaultdict[str, list[float]] = defaultdict(list)
    for number in range(n_calls + N_WARM_UP):
        for name in kinds if number % 2 else reversed(kinds):
            taken = kinds[name].take_ms()
            if number >= N_WARM_UP:
                times[name].append(taken)
    return {name: statistics.median(times[name]) for name in kinds}


def show(title: str, p50: Mapping[str, float], reference: str) -> None:
    """Print one line: medians, and in brackets their ratio to the reference."""
    shown = ", ".join(f"{name} {value:.2f} ms ({value / p50[reference]:.2f})" for name, value in p50.items())
    print(f"{title}: {shown}", flush=True)


def words(n_words: int) -> str:
    """Return a text of so many plain words."""
    return " ".join((WORDS * (1 + n_words // 19)).split()[:n_words])


def check_of(n_prompt: int, n_answer: int) -> bytes:
    """Return a `CheckRequest` of so many words, with a log-probability a word."""
    return bytes(
        pb.CheckRequest(
            request=pb.RouteRequest(text=words(n_prompt)),
            answer=pb.WeakAnswer(text=words(n_answer), finish_reason="stop"),
            signals=pb.AnswerSignals(token_logprobs=[-0.1] * n_answer, alternative_logprobs=[-3.0] * n_answer),
        ).SerializeToString()
    )


@contextlib.contextmanager
def other_server(checkout: Path, bundle: Path, log: Path, option: str) -> Iterator[ServerProcess]:
    """Start the server of another checkout."""
    command = [sys.executable, "-c", START, "serve", "--bundle", str(bundle), "--listen", "127.0.0.1:0", option]
    command += ["--workers", "1", "--cache-items", "0", "--metrics", "off"]
    environment = os.environ | {"PYTHONPATH": str(checkout), "TMPDIR": str(log.parent)}
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command, cwd=checkout, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            if not line:
                raise SystemExit(f"the other checkout did not start: {log.read_text()[-2000:]}")
            yield ServerProcess(process, line, log)
        finally:
            process.kill()


if __name__ == "__main__":
    sys.exit(main())
