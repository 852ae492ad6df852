"""Peak memory of `turnout label --judge`, all its processes together, at some undecided rows and at four times as many.

    python -m tests.bench.judge_memory [--rows 5000] [--batch] [--engine ray]

Every row of the log has a prompt and two answers of its own, 2 kB together, that only a judge can compare. The judge is
the fake endpoint of the tests, in this process, which is not measured. Fails when four times the rows take more than
1.3 times the memory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path

from tests.bench.label_memory import LABEL, MOST, peak_bytes
from tests.fake_endpoint import API_KEY, fake_endpoint
from tests.log_builders import gateway_row
from tests.training.judging import KEY_ENV, arguments

TIMES = 4
WORDS = ("switch", "track", "train", "signal", "siding", "platform", "freight", "whistle", "sleeper", "junction")


def write_undecided(path: Path, rows: int) -> None:
    """Write rows whose answers differ, each of words of its own."""
    chance = random.Random(rows)
    with path.open("w") as file:
        for number in range(rows):
            prompt, strong, weak = (" ".join(chance.choices(WORDS, k=95)) for _ in range(3))
            answers = {
                "gpt-4o": {"content": f"{strong} quality={number % 5}"},
                "gpt-4o-mini": {"content": f"{weak} quality={number % 3}"},
            }
            file.write(json.dumps(gateway_row(f"{number}: {prompt}?", id=f"r{number}", responses=answers)) + "\n")


def main() -> int:
    """Print one line a size, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5000, help="of the smaller log")
    parser.add_argument("--batch", action="store_true")
    parser.add_argument("--engine", default="native")
    options = parser.parse_args()
    os.environ[KEY_ENV] = API_KEY
    peaks = []
    for rows in (options.rows, TIMES * options.rows):
        with tempfile.TemporaryDirectory() as name, fake_endpoint() as endpoint:
            write_undecided(log := Path(name) / "log.jsonl", rows)
            out = ["--out", str(Path(name) / "labels.parquet"), "--engine", options.engine]
            batch = ["--judge-batch", "--judge-batch-wait-s", 3600, "--judge-batch-poll-s", 1] if options.batch else []
            given = arguments(endpoint, "--judge-max-usd", 1e6, *batch)
            peak, took_s, ledger = peak_bytes([*LABEL, str(log), *out, *given])
            peaks.append(peak)
            print(
                f"{rows} rows, {log.stat().st_size / 1e6:.0f} MB, {ledger['labelled']['judge']} judged: "
                f"peak {peak / 1e6:.0f} MB, {took_s:.0f} s",
                flush=True,
            )
    per_row = (peaks[1] - peaks[0]) / ((TIMES - 1) * options.rows)
    print(f"ratio {peaks[1] / peaks[0]:.2f} (at most {MOST}); {per_row:.0f} bytes a row")
    return int(peaks[1] > MOST * peaks[0])


if __name__ == "__main__":
    sys.exit(main())
