"""What `turnout replay` does and prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from turnout.serving.bundles.bundle import Pair
from turnout.training.calls.estimate import estimate
from turnout.training.logs.reading import Reading
from turnout.training.logs.stored_files import LogFile
from turnout.training.progress import Reporter
from turnout.training.replay.replay import EXPECTED_COMPLETION_TOKENS, ReplaySettings, plan_replay, replay
from turnout.training.replay.rows import write_rows


def replay_logs(
    logs: Sequence[LogFile],
    out: Path,
    pair: Pair,
    reading: Reading,
    settings: ReplaySettings,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """Sample rows, ask the weak model, write them with both answers, and print the ledger."""
    reporter = Reporter(quiet=quiet)
    plan = plan_replay(logs, pair, reading, settings, reporter)
    if settings.is_dry_run:
        rows = [(call,) for call in plan.calls]
        told = estimate(rows, settings.cache, settings.caps, EXPECTED_COMPLETION_TOKENS)
        print(msgspec.json.encode(told).decode() if as_json else told.text)
        return
    done = replay(plan, settings, pair, reporter)
    write_rows(out, done.rows, redacts=settings.redacts)
    ledger = {
        "candidates": plan.n_candidates,
        "skipped": {str(why): count for why, count in plan.skipped.items()},
        "sampled": len(plan.calls),
        "replayed": len(done.rows),
        "failed": {str(why): count for why, count in done.failed.items()},
        "calls": done.calls,
        "usd": done.usd,
    }
    if as_json:
        print(msgspec.json.encode(ledger).decode())
        return
    skipped = "".join(f", {why} {count}" for why, count in plan.skipped.items())
    failed = "".join(f", {why} {count}" for why, count in done.failed.items())
    print(
        f"{plan.n_candidates} rows hold only the strong answer{skipped and f' (left out{skipped})'}; "
        f"{len(plan.calls)} sampled by plan {settings.plan}, {len(done.rows)} replayed{failed}; "
        f"{done.calls} calls, {done.usd:.4f} USD for these rows in all runs"
    )
    print(out)
