"""`turnout replay`: rows with only the strong answer are sent to the weak model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from turnout.serving.bundles.manifest import Pair
from turnout.serving.cli.options import AtLeastOne, Flag
from turnout.training.calls.address import Address
from turnout.training.calls.budget import Caps
from turnout.training.calls.estimate import estimate
from turnout.training.cli.options import (
    OUTPUT,
    PAIR,
    PAIRING,
    Flat,
    Logs,
    NonNegative,
    OutputFormat,
    PairingOptions,
    PairOptions,
    Seed,
)
from turnout.training.cli.paid_options import (
    DEFAULT_KEY_ENV,
    DEFAULT_MAX_USD,
    DEFAULT_URL,
    PriceOptions,
    RowsAtATime,
    Seconds,
)
from turnout.training.logs.reading import Reading
from turnout.training.logs.sources import check_out, find_logs
from turnout.training.logs.stored_files import LogFile
from turnout.training.progress import Reporter
from turnout.training.replay.replay import EXPECTED_COMPLETION_TOKENS, ReplaySettings, default_cache, plan_replay
from turnout.training.replay.replay import replay as replay_plan
from turnout.training.replay.rows import write_rows

PRICES = PriceOptions()


def replay(
    logs: Logs,
    /,
    *,
    out: Path,
    model: str = "",
    base_url: str = DEFAULT_URL,
    key_env: str = DEFAULT_KEY_ENV,
    sample: AtLeastOne = 500,
    plan: str = "uniform",
    bundle: Path | None = None,
    max_usd: Annotated[float, NonNegative] = DEFAULT_MAX_USD,
    max_calls: Annotated[int | None, NonNegative] = None,
    max_answer_tokens: AtLeastOne = 4096,
    dry_run: Flag = False,
    cache: Path | None = None,
    concurrency: RowsAtATime = 8,
    timeout_s: Seconds = 120.0,
    prices: Annotated[PriceOptions, Flat] = PRICES,
    pair: Annotated[PairOptions, Flat] = PAIR,
    files: Annotated[PairingOptions, Flat] = PAIRING,
    seed: Seed = 0,
    output: Annotated[OutputFormat, Flat] = OUTPUT,
) -> None:
    """Send rows that hold only the strong answer to the weak model, and write them with both answers.

    Each row carries its pair_propensity: the probability that it was sampled, which weighs it in training.

    Args:
        out: JSONL file to write: the rows sampled, with both answers.
        model: Weak model to ask, as the endpoint knows it; --weak when empty.
        base_url: OpenAI-compatible endpoint of the weak model.
        key_env: Environment variable that holds the API key; empty where the endpoint needs none.
        sample: Rows to replay.
        plan: Which rows to sample: uniform, task (as many of each), uncertainty (p_match near 0.5).
        bundle: Bundle whose p_match says what is uncertain; the champion when not given.
        max_usd: Most USD that these rows may cost, over all runs.
        max_calls: Most billed calls for these rows, over all runs.
        max_answer_tokens: Longest answer, where a request sets none.
        dry_run: Print calls and cost; send and write nothing.
        cache: SQLite file that remembers what was paid for; beside --out when not given.
        concurrency: Rows asked at a time.
        timeout_s: Seconds for one call.
    """
    settings = ReplaySettings(
        model=model or pair.weak,
        address=Address(base_url, key_env, timeout_s),
        cache=cache or default_cache(out),
        caps=Caps(max_usd, max_calls),
        rows=sample,
        plan=plan,
        bundle=bundle,
        max_answer_tokens=max_answer_tokens,
        is_dry_run=dry_run,
        redacts=prices.redact,
        concurrency=concurrency,
        prices=prices.prices,
        seed=seed,
    )
    reading, found = files.reading, find_logs(logs)
    check_out(out, found, bundle)
    replay_logs(found, out, pair.pair, reading, settings, quiet=output.quiet, as_json=output.as_json)


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
    done = replay_plan(plan, settings, pair, reporter)
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
