"""Memory that finding near-duplicates takes a row, beside the texts, and its time.

    python -m tests.bench.near_duplicates LOG [--rows 20000] [--column prompt]

LOG is a Parquet table with a column of texts. They are repeated, their words in another order each time, and every
fifth as it was but for a number before it, so that some rows have near-duplicates. Two processes go through that many
rows and ten times as many, made one by one and not held. Fails when a further row takes more than 200 bytes
of resident memory.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from turnout.training.dataset.near_duplicates import near_duplicates

MOST_BYTES = 200
"""A row."""


class Measured(NamedTuple):
    """Peak resident memory of a process, the pairs that it found and its seconds."""

    peak_bytes: int
    pairs: int
    seconds: float


def texts_of(table: Path, column: str, rows: int) -> Iterator[str]:
    """Yield that many texts of real length."""
    found = [text for text in pq.read_table(table, columns=[column])[column].to_pylist() if text]
    for number, text in enumerate(islice(cycle(found), rows)):
        if number % 5 == 0:
            yield f"{number}: {text}"
        else:
            words = text.split()
            random.Random(number).shuffle(words)
            yield " ".join(words)


def measure(table: Path, column: str, rows: int) -> Measured:
    """Find near-duplicates among that many texts."""
    started_s = time.perf_counter()
    pairs = sum(1 for _ in near_duplicates(texts_of(table, column, rows)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Measured(peak, pairs, time.perf_counter() - started_s)


def main() -> int:
    """Print one line a size, and the bytes of a further row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("--rows", type=int, default=20_000, help="of the smaller run")
    parser.add_argument("--column", default="prompt")
    options = parser.parse_args()
    peaks = []
    for rows in (options.rows, 10 * options.rows):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            found = process.submit(measure, options.log, options.column, rows).result()
        peaks.append(found.peak_bytes)
        print(
            f"{rows} rows, {found.pairs} pairs: peak {found.peak_bytes / 1e6:.0f} MB, {found.seconds:.1f} s", flush=True
        )
    per_row = (peaks[1] - peaks[0]) / (9 * options.rows)
    print(f"{per_row:.0f} bytes a further row (at most {MOST_BYTES})")
    return int(per_row > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
