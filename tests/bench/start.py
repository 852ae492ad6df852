"""What a start costs: CPU seconds of commands, and of a server until it is ready, with the time on the clock.

    python -m tests.bench.start [--rounds 7] [--before FOLDER]

`--before` is another checkout, whose programs take turns with ours. CPU is of the process and its children; the least
of the rounds stands first, beside other load the one to read, then the median.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
APP = (sys.executable, "-m", "turnout.serving.cli.app")
COMMANDS = {
    "--help": ("--help",),
    "route": ("route", "What is the capital of France?"),
}
SERVERS = {
    "serve, one process": ("--workers", "0"),
    "serve, a supervisor and a worker": ("--workers", "1"),
    "serve, no head in C": ("--workers", "0", "--no-native-head"),
}
Costs = tuple[float, float]
"""CPU and wall seconds."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--before", type=Path)
    given = parser.parse_args()
    roots = {"now": ROOT} | ({} if given.before is None else {"before": given.before})
    found: dict[tuple[str, str], list[Costs]] = defaultdict(list)
    for _ in range(given.rounds):
        for which, root in roots.items():
            for name, words in COMMANDS.items():
                found[name, which].append(command(words, root))
            for name, options in SERVERS.items():
                found[name, which].append(server(options, root))
    print(f"{'':34} {'':7} {'CPU s, least':>13} {'median':>7} {'wall s, least':>14} {'median':>7}")
    for (name, which), costs in sorted(found.items(), reverse=True):
        cpu, wall = zip(*costs, strict=True)
        print(
            f"{name:34} {which:7} {min(cpu):13.2f} {statistics.median(cpu):7.2f} {min(wall):14.2f} "
            f"{statistics.median(wall):7.2f}"
        )


def environment(root: Path) -> dict[str, str]:
    """Return the variables under which a checkout's own modules run."""
    return os.environ | {"PYTHONPATH": f"{root}:{root / '.imports'}", "OPENBLAS_NUM_THREADS": "1"}


def command(words: tuple[str, ...], root: Path) -> Costs:
    """Run a command to its end."""
    before, start_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*APP, *words], env=environment(root), cwd=root, check=True, stdout=subprocess.DEVNULL, timeout=60)
    wall_s, after = time.perf_counter() - start_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall_s


def server(options: tuple[str, ...], root: Path) -> Costs:
    """Start a server, wait until it says that it serves, and end it."""
    words = [*APP, "serve", "--listen", "127.0.0.1:0", "--metrics", "off", "--lame-duck-s", "0", *options]
    start_s = time.perf_counter()
    with subprocess.Popen(
        words, env=environment(root), cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        wall_s = time.perf_counter() - start_s
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        times = [one.cpu_times() for one in family]
        process.terminate()
        assert " on " in said, said
    return sum(one.user + one.system for one in times), wall_s


if __name__ == "__main__":
    main()
