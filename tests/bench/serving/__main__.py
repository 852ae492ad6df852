"""Turnout beside its parts and its peers, in turns, in one run.

    python -m tests.bench.serving [--rounds 3] [--only NAME ...] [--scale 1] [--usd-per-core-hour X] [--json FILE]

Run by `make bench-serving`, which makes the peers' environments; a peer without one is left out and named. Absolute
times on shared machines vary twofold; ratios are taken within a round. Every other round goes in reverse order.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tests.bench.serving.early_exit import early_exit
from tests.bench.serving.processes import UPSTREAM, NotMeasured, running
from tests.bench.serving.promises import promises
from tests.bench.serving.prompts import mixed
from tests.bench.serving.result import Result
from tests.bench.serving.table import show
from tests.bench.serving.turns import Seconds, Turn, turn
from tests.bench.serving.variants import VARIANTS, Variant

USD_PER_CORE_HOUR = 0.0408
PRICE_SOURCE = "AWS m7g.large on demand, Linux, us-east-1, June 2026: USD 0.0816 an hour for 2 cores"
MIX_PROMPTS = 2000


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [one.name for one in VARIANTS]
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the seconds of each measurement")
    parser.add_argument("--usd-per-core-hour", type=float, help=f"default {USD_PER_CORE_HOUR}: {PRICE_SOURCE}")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    chosen = [one for one in VARIANTS if one.name in given.only]
    result = measure(chosen, given.rounds, Seconds().scaled(given.scale), given.usd_per_core_hour)
    show(result)
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(result)))


def measure(variants: list[Variant], n_rounds: int, seconds: Seconds, usd_per_core_hour: float | None) -> Result:
    """Give every variant a turn in each round."""
    started, load_before = time.perf_counter(), os.getloadavg()[0]
    mix_name, mix = mixed(MIX_PROMPTS, seed=0)
    skipped = {
        one.name: f"no .venv-bench-{one.peer}; make bench-serving makes it" for one in variants if not one.is_there
    }
    rounds = _rounds([one for one in variants if one.is_there], mix, n_rounds, seconds, skipped)
    return Result(
        machine=_processor(),
        cores=os.cpu_count() or 1,
        load_before=load_before,
        commit=_commit(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        mix=mix_name,
        usd_per_core_hour=USD_PER_CORE_HOUR if usd_per_core_hour is None else usd_per_core_hour,
        price_source=PRICE_SOURCE if usd_per_core_hour is None else "as given",
        early_exit=early_exit(mix),
        promises=promises(rounds),
        skipped=skipped,
        rounds=rounds,
        seconds=time.perf_counter() - started,
    )


def _rounds(
    variants: list[Variant], mix: list[str], n_rounds: int, seconds: Seconds, skipped: dict[str, str]
) -> list[dict[str, Turn]]:
    rounds = []
    with running(UPSTREAM) as upstream:
        for index in range(n_rounds):
            turns = {}
            for one in variants if index % 2 == 0 else variants[::-1]:
                if one.name in skipped:
                    continue
                print(f"round {index + 1} of {n_rounds}: {one.what}", file=sys.stderr)
                try:
                    turns[one.name] = turn(one, mix, seconds, f"http://{upstream.target}/v1")
                except NotMeasured as error:
                    skipped[one.name] = str(error)
            rounds.append(turns)
    return rounds


def _processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else "unknown processor"


def _commit() -> str:
    asked = ("git", "describe", "--always", "--dirty")
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
