"""Rows a second of `turnout label` by reference, reading and writing included.

    python -m tests.bench.label_rate LOG [--rows 100000] [--repeats 3]

LOG is a Parquet table with both answers and references. Its rows, without their scores and repeated with distinct ids,
are written as a gateway log (JSONL) to a temporary folder; each repeat labels it in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import pyarrow.parquet as pq

LABEL = [sys.executable, "-c", "from turnout.serving.cli.app import main; main()", "label", "--quiet", "--json"]


def write_log(table: Path, path: Path, rows: int) -> None:
    """Write that many rows in the shape of a gateway log, from the rows with a reference in turn."""
    columns = ["prompt_id", "task", "prompt", "strong_response", "weak_response", "reference"]
    found = [row for row in pq.read_table(table, columns=columns).to_pylist() if row["reference"] is not None]
    with path.open("w", encoding="utf-8") as file:
        for number, row in enumerate(islice(cycle(found), rows)):
            answers = {"gpt-4o": {"content": row["strong_response"]}, "gpt-4o-mini": {"content": row["weak_response"]}}
            line = {
                "id": f"{row['prompt_id']}-{number}",
                "task": row["task"],
                "request": {"messages": [{"role": "user", "content": row["prompt"]}]},
                "responses": answers,
                "reference": row["reference"],
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def main() -> None:
    """Print one line a repeat: wall and processor seconds, rows a second of each, and the load of the machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "log.jsonl"
        write_log(options.log, log, options.rows)
        print(f"{options.rows} rows, {log.stat().st_size / 1e6:.0f} MB, {os.cpu_count()} cores")
        for _ in range(options.repeats):
            load, cpu_before, started = os.getloadavg()[0], _cpu_s(), time.perf_counter()
            ended = subprocess.run(
                [*LABEL, log, "--out", Path(name) / "labels.parquet"], check=True, capture_output=True
            )
            wall_s, cpu_s = time.perf_counter() - started, _cpu_s() - cpu_before
            by_reference = sum(
                n for who, n in json.loads(ended.stdout)["labelled"].items() if who.startswith("reference")
            )
            print(
                f"{by_reference} by reference; wall {wall_s:.1f} s, {options.rows / wall_s:.0f} rows/s; "
                f"processor {cpu_s:.1f} s, {options.rows / cpu_s:.0f} rows/s a core; load {load:.1f}"
            )


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
