"""Calls a second with one, two and three replicas, by clients that know them and through nginx, in turns of one run.

    python -m tests.bench.replicas

Replicas, nginx and callers share the machine's cores: more replicas than cores can't answer more. Absolute figures on
shared machines vary twofold; the ratios of one run hold.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from tests.replicas import nginx_before, replicas
from tests.scorecard import load
from tests.scorecard.calibration import mixed_texts
from turnout.serving.bundles.registry import find_bundle

COUNTS = (1, 2, 3)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--bundle", type=Path)
    arguments.add_argument("--seconds", type=float, default=4.0)
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    per_s: dict[tuple[str, int], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        running = stack.enter_context(replicas(Path(scratch), 3, find_bundle(given.bundle)))
        targets: dict[tuple[str, int], list[str]] = {}
        for n in COUNTS:
            folder = Path(scratch) / f"nginx-{n}"
            folder.mkdir()
            targets["clients", n] = running.addresses[:n]
            targets["nginx", n] = [stack.enter_context(nginx_before(running.addresses[:n], folder))]
        for _ in range(given.rounds):
            for key, addresses in targets.items():
                plan = load.Plan(targets=addresses, texts=mixed_texts(), seconds=given.seconds, callers=16)
                done = load.drive(plan)
                if done.ok != done.sent:
                    raise RuntimeError(f"{key}: {done.sent - done.ok} of {done.sent} calls failed")
                per_s[key].append(done.ok / given.seconds)
    print(f"{os.cpu_count()} cores, 16 callers, {given.rounds} turns of {given.seconds:g} s each; calls/s")
    for way in ("clients", "nginx"):
        one = statistics.median(per_s[way, 1])
        for n in COUNTS:
            middle, least, most = statistics.median(per_s[way, n]), min(per_s[way, n]), max(per_s[way, n])
            print(f"{way:8s} {n} replicas: {middle:6.0f} ({least:.0f} to {most:.0f}), {middle / one:.2f} of one")


if __name__ == "__main__":
    main()
