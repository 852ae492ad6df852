"""Latency and size of one server: ready time, resident memory, Route by prompt length beside the same model in process.

Run by `make bench`. Absolute times on shared machines vary twofold; the ratios of one run hold.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.client import Router
from turnout.serving.router.prompt import prompt_from_text

WORDS = "the ferry leaves the northern pier at noon and seven red lamps light every quiet street of our old town "
LENGTHS = (8, 32, 128, 512)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--bundle", type=Path)
    arguments.add_argument("--calls", type=int, default=500)
    arguments.add_argument("--json", action="store_true")
    given = arguments.parse_args()
    folder = find_bundle(given.bundle)
    result = measure(folder, given.calls)
    if given.json:
        print(json.dumps(result))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, bundle {folder}")
    print(f"ready after {result['ready_s']:.2f} s, resident {result['resident_mib']:.0f} MiB")
    for row in result["rows"]:
        print(
            f"{row['tokens']:4d} tokens, {row['stage']:4s}: Route p50 {row['route_p50_ms']:.2f} ms, p99 "
            f"{row['route_p99_ms']:.2f} ms; in process p50 {row['model_p50_ms']:.2f} ms"
        )


def measure(folder: Path, n_calls: int) -> dict:
    """Start a server on a free port and time it; every figure is of this run."""
    command = [
        sys.executable,
        "-m",
        "turnout.serving.cli.app",
        "serve",
        "--bundle",
        str(folder),
        "--listen",
        "127.0.0.1:0",
        "--cache-items",
        "0",
        "--workers",
        "1",
    ]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            target = server.stdout.readline().strip().rpartition(" ")[2]
            ready_s = time.perf_counter() - started
            rows = _rows(folder, target, n_calls)
            resident_mib = _resident_mib(server.pid)
        finally:
            server.terminate()
    return {"ready_s": ready_s, "resident_mib": resident_mib, "rows": rows}


def _rows(folder: Path, target: str, n_calls: int) -> list[dict]:
    bundle = load_bundle(folder)
    rows = []
    with Router(target, timeout_s=5.0) as router:
        for tokens in LENGTHS:
            text = " ".join((WORDS * 30).split()[:tokens])
            prompt = prompt_from_text(text)
            stages = (("FAST", 0.0), ("FULL", bundle.model.predict(prompt, 0.5).p_match))
            for stage, threshold in stages:
                answered = router.route(text=text, threshold=threshold)
                if answered.stage != stage:
                    continue
                routed = _times(partial(router.route, text=text, threshold=threshold), n_calls)
                alone = _times(partial(bundle.model.predict, prompt, threshold), n_calls)
                rows.append(
                    {
                        "tokens": tokens,
                        "stage": stage,
                        "route_p50_ms": statistics.median(routed),
                        "route_p99_ms": statistics.quantiles(routed, n=100)[98],
                        "model_p50_ms": statistics.median(alone),
                    }
                )
    return rows


def _times(call, n_calls: int) -> list[float]:
    times_ms = []
    for _ in range(n_calls):
        start = time.perf_counter()
        call()
        times_ms.append((time.perf_counter() - start) * 1e3)
    return times_ms


def _resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
