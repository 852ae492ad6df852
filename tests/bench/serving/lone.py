"""A lone `Route` that the first stage answers, beside a bare echo of grpc.aio and one of C++.

    python -m tests.bench.serving.lone [--rounds 8] [--slices 12] [--before FOLDER]

Clients: grpc's Python one and, where `make bench-cpp` could build it (Debian's libgrpc++-dev), one in C++. In each
round every server starts anew, for two processes of the same program differ by a quarter; slices of 100 calls go to
the servers in turns, in an order drawn anew. CPU is the server's, all threads, by the kernel's count of nanoseconds.
`--before` is another checkout of ours, whose server takes turns too. Ratios hold beside other load; times do not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from tests.bench.native import fast_texts
from tests.bench.serving.variants import PACKAGE, ROOT
from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.wire.route import ROUTE_METHOD

CPP = ROOT / ".venv-bench-cpp" / "lone"
N_CALLS = 100
ECHO = "grpc.aio echo"
Slices = dict[tuple[str, str], list[tuple[float, float]]]
"""By client and server: CPU and median time of a call, in us, of each slice."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--slices", type=int, default=12)
    parser.add_argument("--before", type=Path)
    given = parser.parse_args()
    bundle = load_bundle(find_bundle(), native=True)
    requests = [pb.RouteRequest(text=text).SerializeToString() for text in fast_texts(bundle, N_CALLS)]
    rounds = []
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(len(one).to_bytes(4, sys.byteorder) + one for one in requests))
        file.flush()
        for number in range(given.rounds):
            print(f"round {number + 1} of {given.rounds}", file=sys.stderr)
            rounds.append(one_round(requests, Path(file.name), given.slices, given.before))
    print("\n".join(table(rounds)))
    if not CPP.exists():
        print("left out: C++ echo and client; make bench-cpp builds them, with Debian's libgrpc++-dev")


def one_round(requests: list[bytes], file: Path, n_slices: int, before: Path | None) -> Slices:
    """Start all servers, call them in turns, end them."""
    found: Slices = defaultdict(list)
    with contextlib.ExitStack() as stack:
        jobs: dict[tuple[str, str], tuple[int, Callable[[], list[float]]]] = {}
        for name, command, root in servers(before):
            pid, address = stack.enter_context(serving(command, root))
            stub = stack.enter_context(grpc.insecure_channel(address)).unary_unary(ROUTE_METHOD)
            jobs["Python client", name] = pid, lambda stub=stub: [_timed(stub, one) for one in requests]
            if CPP.exists():
                jobs["C++ client", name] = pid, lambda address=address: _called(address, file)
        for _, job in jobs.values():
            job(), job()  # warm
        for _ in range(n_slices):
            for key in random.sample(list(jobs), len(jobs)):
                pid, job = jobs[key]
                cpu_us = _cpu_us(pid)
                took_us = job()
                found[key].append(((_cpu_us(pid) - cpu_us) / len(took_us), statistics.median(took_us)))
    return found


def servers(before: Path | None) -> Iterator[tuple[str, list[str], Path]]:
    """Yield name, command and folder of each server."""
    serve = ["-m", "turnout.serving.cli.app", "serve", "--listen", "127.0.0.1:0", "--workers", "0"]
    serve += ["--cache-items", "0", "--no-reflection"]
    yield ECHO, [sys.executable, "-m", f"{PACKAGE}.echo", "0"], ROOT
    if CPP.exists():
        yield "C++ echo", [str(CPP), "serve"], ROOT
    yield "Turnout", [sys.executable, *serve], ROOT
    if before is not None:
        yield "before", [sys.executable, *serve], before


@contextlib.contextmanager
def serving(command: list[str], root: Path) -> Iterator[tuple[int, str]]:
    """Start a server that prints its address last in a line; end it with the block."""
    environment = os.environ | {"PYTHONPATH": f"{root}:{root / '.imports'}"}
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=-3, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield process.pid, process.stdout.readline().split()[-1]
        finally:
            process.kill()


def _timed(stub: Callable[..., object], request: bytes) -> float:
    start_s = time.perf_counter()
    stub(request, timeout=60)
    return 1e6 * (time.perf_counter() - start_s)


def _called(address: str, file: Path) -> list[float]:
    command = [str(CPP), "call", address, str(N_CALLS), str(file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return [float(line) for line in done.stdout.split()]


def _cpu_us(pid: int) -> float:
    """Return the CPU time of all threads of a process so far."""
    total = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it ended just now
            total += int((task / "schedstat").read_text().split()[0]) / 1e3
    return total


def table(rounds: list[Slices]) -> Iterator[str]:
    """Yield a line for each client and server: medians of the rounds, ratios to the echo of the same round."""
    yield f"{'':14} {'':14} {'CPU us':>8} {'of echo':>8} {'p50 us':>8} {'of echo':>8}   p50 of echo by round"
    for client, server in rounds[0]:
        cpu, p50 = zip(*(_medians(one[client, server]) for one in rounds), strict=True)
        of_echo = [_medians(one[client, ECHO]) for one in rounds]
        cpu_ratios = [one / other for one, (other, _) in zip(cpu, of_echo, strict=True)]
        ratios = [one / other for one, (_, other) in zip(p50, of_echo, strict=True)]
        yield (
            f"{client:14} {server:14} {statistics.median(cpu):8.0f} {statistics.median(cpu_ratios):8.2f} "
            f"{statistics.median(p50):8.0f} {statistics.median(ratios):8.2f}   {min(ratios):.2f} {max(ratios):.2f}"
        )


def _medians(slices: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(cpu for cpu, _ in slices), statistics.median(p50 for _, p50 in slices)


if __name__ == "__main__":
    main()
