"""Times a decider that runs in this process; only the standard library, so that any peer's environment can run it.

Run as `python -m tests.bench.serving.in_process MODULE [OPTION ...]`. Prints `ready` after the first decision; then
reads batches of prompts as JSON, `{"texts": [...], "seconds": s}`, one a line, and answers each with its times.
"""

import importlib
import json
import sys
import time


def timed(decide, texts: list[str], seconds: float) -> dict:
    """Decide on the prompts in turn for so many seconds; `cpu_s` is of the whole process, all threads."""
    latency_ms = []
    started, cpu_started = time.perf_counter(), time.process_time()
    while (began := time.perf_counter()) < started + seconds:
        decide(texts[len(latency_ms) % len(texts)])
        latency_ms.append((time.perf_counter() - began) * 1e3)
    return {
        "latency_ms": latency_ms,
        "wall_s": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu_started,
    }


def main() -> None:
    """Answer batches until standard input ends."""
    decide = importlib.import_module(sys.argv[1]).decider(sys.argv[2:])
    decide("Which of the two ferries leaves first?")
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(timed(decide, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
