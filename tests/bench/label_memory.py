"""Peak memory of `turnout label`, all its processes together, at one size of log and at ten times that.

    python -m tests.bench.label_memory LOG [--rows 100000] [--keep features] [--single] [--short]
        [--engine ray]

LOG is a Parquet table with both answers and references. Its rows, repeated with distinct ids, are written as a gateway
log (JSONL) to a temporary folder. `--single` writes the two answers as two rows, so that every row waits for another;
`--short` writes prompts of five words, for encoders that take their time. Fails when ten times the rows take more than
1.3 times the memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

LABEL = [sys.executable, "-c", "from turnout.serving.cli.app import main; main()", "label", "--quiet", "--json"]
MOST = 1.3
"""Times the memory at ten times the rows."""
COLUMNS = ["prompt_id", "task", "prompt", "strong_response", "weak_response", "reference"]


def rows_of(table: Path, rows: int, *, is_short: bool) -> Iterator[dict[str, Any]]:
    """Yield that many rows in the shape of a gateway log, from the rows with a reference in turn."""
    found = [row for row in pq.read_table(table, columns=COLUMNS).to_pylist() if row["reference"] is not None]
    for number, row in enumerate(islice(cycle(found), rows)):
        prompt = f"{number}: " + (" ".join(row["prompt"].split()[:5]) if is_short else row["prompt"])
        yield {
            "id": f"{row['prompt_id']}-{number}",
            "task": row["task"],
            "request": {"messages": [{"role": "user", "content": prompt}]},
            "responses": {
                "gpt-4o": {"content": row["strong_response"]},
                "gpt-4o-mini": {"content": row["weak_response"]},
            },
            "reference": row["reference"],
        }


def write_log(path: Path, rows: Iterator[dict[str, Any]], *, is_single: bool) -> None:
    """Write rows as JSON lines; with `is_single` first each strong answer, and the weak ones in a second file."""
    with path.open("w", encoding="utf-8") as file, path.with_name(f"weak-{path.name}").open("w") as weak:
        for row in rows:
            if not is_single:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                continue
            for model, answer in row["responses"].items():
                line = json.dumps(row | {"id": f"{row['id']}-{model}", "responses": {model: answer}})
                (file if model == "gpt-4o" else weak).write(line + "\n")


def peak_bytes(command: list[str]) -> tuple[int, float, dict[str, Any]]:
    """Run a command; return the peak of the memory that its processes had together, its seconds and its result."""
    peak, started_s = 0, time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        family = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, sum(one.memory_info().rss for one in (family, *family.children(recursive=True))))
            except psutil.NoSuchProcess:
                continue
            time.sleep(0.02)
        assert process.stdout is not None
        assert process.returncode == 0, command
        return peak, time.perf_counter() - started_s, json.loads(process.stdout.read())


def main() -> int:
    """Print one line a size, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("--rows", type=int, default=100_000, help="of the smaller log")
    parser.add_argument("--keep", default="prompts")
    parser.add_argument("--engine", default="native")
    parser.add_argument("--single", action="store_true")
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    peaks = []
    for rows in (options.rows, 10 * options.rows):
        with tempfile.TemporaryDirectory() as name:
            log = Path(name) / "log.jsonl"
            write_log(log, rows_of(options.log, rows, is_short=options.short), is_single=options.single)
            logs = [str(path) for path in (log, log.with_name(f"weak-{log.name}")) if path.stat().st_size]
            n_bytes = sum(Path(path).stat().st_size for path in logs)
            out = ["--out", str(Path(name) / "labels.parquet"), "--engine", options.engine]
            more = ["--keep", options.keep, "--no-cache"]
            peak, took_s, ledger = peak_bytes([*LABEL, *logs, *out, *more])
            peaks.append(peak)
            print(
                f"{ledger['rows']} rows, {n_bytes / 1e6:.0f} MB, {ledger['merged']} merged: "
                f"peak {peak / 1e6:.0f} MB, {took_s:.0f} s",
                flush=True,
            )
    per_row = (peaks[1] - peaks[0]) / (9 * options.rows * (2 if options.single else 1))
    print(f"ratio {peaks[1] / peaks[0]:.2f} (at most {MOST}); {per_row:.0f} bytes a row")
    return int(peaks[1] > MOST * peaks[0])


if __name__ == "__main__":
    sys.exit(main())
