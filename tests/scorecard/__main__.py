"""The scorecard: what the server promises under load, faults and change, checked on this machine.

    S0 -> the checks, one after the other -> S0 again -> a table, a JSON file, exit code 1 when a check fails

Sizes and thresholds are those of the design's section on reliability; `--fast` takes minutes, `--full` an hour.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from tests.scorecard import bad_input, change, ending, faults, files, held_load, peers, withdrawn
from tests.scorecard.calibration import calibrate
from tests.scorecard.conditions import Conditions
from tests.scorecard.lines import Line, at_least, reported
from turnout.serving.bundles.registry import find_bundle

CHECKS: dict[tuple[str, ...], Callable[[Conditions], Iterator[Line]]] = {
    ("R1",): held_load.steady,
    ("R2",): held_load.efficiency,
    ("R3", "R4"): held_load.overload_and_recovery,
    ("R5",): peers.soak,
    ("R6",): peers.long_prompts,
    ("R7",): withdrawn.expired,
    ("R8",): withdrawn.cancelled,
    ("R9",): withdrawn.harmed,
    ("R10",): peers.crashing_client,
    ("R11",): peers.silent_peers,
    ("R12",): bad_input.structured_fuzz,
    ("R13",): bad_input.raw_fuzz,
    ("R14",): bad_input.sizes,
    ("R15",): bad_input.leaks,
    ("R16",): bad_input.not_numbers,
    ("R17",): files.damaged,
    ("R18",): files.hostile,
    ("R19",): files.damaged_in_place,
    ("R20",): files.parity,
    ("R21",): change.swaps,
    ("R22",): change.bad_swaps,
    ("R23",): ending.stops,
    ("R24",): ending.starts,
    ("R26",): faults.nothing_leaves,
    ("R27",): faults.true_ledger,
    ("R28",): faults.starved_port,
    ("R29",): faults.silent_relay,
    ("R30",): faults.hung_workers,
    ("R31",): faults.unreadable_content,
    ("R32",): faults.hanging_collector,
}


def main() -> int:
    """Run the checks asked for; 0 when all that are judged pass."""
    arguments = argparse.ArgumentParser(prog="python -m tests.scorecard", description=__doc__)
    size = arguments.add_mutually_exclusive_group()
    size.add_argument("--fast", action="store_true", help="sizes that fit into some ten minutes (the default)")
    size.add_argument("--full", action="store_true", help="the sizes of the design")
    arguments.add_argument("--only", default="", metavar="R1,R3", help="run these checks only")
    arguments.add_argument("--bundle", type=Path, help="the bundle to put under load; default: the one that ships")
    arguments.add_argument("--out", type=Path, default=Path("scorecard.json"))
    given = arguments.parse_args()
    wanted = {name for name in given.only.upper().split(",") if name}
    unknown = wanted - {name for names in CHECKS for name in names}
    if unknown:
        arguments.error(f"--only: no such check: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="turnout-scorecard-") as scratch:
        os.environ["TMPDIR"] = os.environ["XDG_RUNTIME_DIR"] = scratch  # nothing is left beside it
        conditions = Conditions(find_bundle(given.bundle), Path(scratch), given.full)
        lines = list(_all_lines(conditions, wanted))
    given.out.write_bytes(msgspec.json.format(msgspec.json.encode(_report(conditions, lines))))
    failed = [line for line in lines if not line.passed]
    print(f"{len(lines)} lines, {len(failed)} failed; written to {given.out}")
    return 1 if failed else 0


def _all_lines(conditions: Conditions, wanted: set[str]) -> Iterator[Line]:
    before = conditions.calibration
    yield from _shown(
        [reported("S0", "C: in-process prompts a second", before.rate, int(before.rate * before.seconds))]
    )
    yield from _shown([reported("S0", "in-process p50, ms", before.p50_ms, int(before.rate * before.seconds))])
    for names, check in CHECKS.items():
        if not wanted or wanted & set(names):
            yield from _shown(_guarded(names, check, conditions))
    after = calibrate(conditions.folder, before.seconds)
    # Where the machine's own speed moved by more than this, figures that compare with S0 say little.
    steadiness = min(after.rate, before.rate) / max(after.rate, before.rate)
    yield from _shown([at_least("S0", "slower of C before and after, over the faster", steadiness, 0.5, 2)])


def _guarded(
    names: tuple[str, ...], check: Callable[[Conditions], Iterator[Line]], conditions: Conditions
) -> Iterator[Line]:
    """Run a check; one that breaks is a check that fails."""
    started = time.monotonic()
    try:
        yield from check(conditions)
    except Exception:  # noqa: BLE001  # whatever breaks, the other checks are still worth their while
        traceback.print_exc()
        yield Line(names[0], "the check itself broke", 1.0, "= 0", 1, passed=False)
    print(f"     {', '.join(names)}: {time.monotonic() - started:.0f} s", flush=True)


def _shown(lines: Iterator[Line] | list[Line]) -> Iterator[Line]:
    for line in lines:
        print(line, flush=True)
        yield line


def _report(conditions: Conditions, lines: list[Line]) -> dict[str, object]:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "load_average": os.getloadavg(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "commit": commit.stdout.strip(),
        "bundle": conditions.folder.name,
        "sizes": "full" if conditions.is_full else "fast",
        "passed": all(line.passed for line in lines),
        "lines": lines,
    }


def _processor() -> str:
    for row in Path("/proc/cpuinfo").read_text().splitlines():
        if row.startswith("model name"):
            return row.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
