"""Replay: rows with only the strong answer are sent to the weak model, so that they can be labelled.

Comes in: logs. Goes out: the sampled rows in the log's own shape with both answers, each with the probability
that it has them. Same endpoint, cache, caps and resume as the judge.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.manifest import Pair
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.router.redaction import redact_json
from turnout.training.calls.address import Address
from turnout.training.calls.budget import Budget, Caps
from turnout.training.calls.cache import CallCache
from turnout.training.calls.call import Call, CallFailure, Reply, key_of
from turnout.training.calls.caller import Caller, Outcome
from turnout.training.calls.endpoint import open_client
from turnout.training.calls.tariff import GivenPrices, Tariff, find_tariff
from turnout.training.errors import CallsMisused, DataRefused
from turnout.training.learn.predict import predict_rows
from turnout.training.logs.read import read_records
from turnout.training.logs.reading import Reading
from turnout.training.logs.records import Record
from turnout.training.logs.stored_files import LogFile
from turnout.training.progress import Reporter
from turnout.training.replay.rows import KeptAnswer, ReplayedRow, ReplayRequest, Skipped, original_requests
from turnout.training.replay.sampling import Plan, draw, task_shares, uncertainty_shares, uniform_shares

REPLAYED_FIELDS = frozenset(
    {
        "messages",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "temperature",
        "top_p",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "reasoning_effort",
    }
)
"""Of a logged body, what shapes the answer. The rest (streaming, storage, user names) concerns that call alone."""

EXPECTED_COMPLETION_TOKENS = 300


@dataclass(frozen=True)
class ReplaySettings:
    """What the operator asked for.

    Attributes:
        model: the weak model, as the endpoint knows it.
        address: where it is.
        cache: SQLite file of what was asked and answered; it holds answers.
        caps: over all runs on the same rows.
        rows: size of the sample.
        plan: `uniform`, `task` or `uncertainty`.
        bundle: whose p_match says what is uncertain; None for the champion.
        max_answer_tokens: where a request sets no limit.
        is_dry_run: only say what it would cost.
        concurrency: rows asked at a time.
        prices: for a model that the price list lacks.
        seed: of the sample.
        redacts: whether personal data is replaced in what is kept and written; calls go out as logged.
    """

    model: str
    address: Address
    cache: Path
    caps: Caps
    rows: int
    plan: str = Plan.UNIFORM
    bundle: Path | None = None
    max_answer_tokens: int = 4096
    is_dry_run: bool = False
    concurrency: int = 8
    prices: GivenPrices | None = None
    redacts: bool = False
    seed: int = 0


@dataclass(frozen=True)
class ReplayPlan:
    """The rows drawn, in random order, and the call for each.

    Attributes:
        requests: the rows with what they asked.
        numbers: their places in the order of the logs.
        shares: their probabilities of having been drawn.
        calls: one a row.
        n_candidates: rows they were drawn from.
        skipped: rows with only the strong answer that can't be replayed, by why.
    """

    requests: list[ReplayRequest]
    numbers: list[int]
    shares: list[float]
    calls: list[Call]
    n_candidates: int
    skipped: dict[Skipped, int]


@dataclass(frozen=True)
class Replayed:
    """What came of it.

    Attributes:
        rows: with both answers, in the order of files and lines.
        failed: calls without an answer, by why.
        usd, calls: of these rows, over all runs.
    """

    rows: list[ReplayedRow]
    failed: dict[CallFailure, int] = field(default_factory=dict)
    usd: float = 0.0
    calls: int = 0


def default_cache(out: Path) -> Path:
    """Return where the cache lies unless another file is named."""
    return out.with_name(f"{out.name}.replay.sqlite")


def plan_replay(
    logs: Sequence[LogFile], pair: Pair, reading: Reading, settings: ReplaySettings, reporter: Reporter
) -> ReplayPlan:
    """Read the logs and draw the sample; sends nothing.

    Raises:
        CallsMisused: plan or URL can't be used.
        DataRefused: no row holds only the strong answer.
        PriceUnknown: the model has no price.
    """
    if settings.plan not in list(Plan):
        raise CallsMisused(f"--plan is {settings.plan!r}, expected one of {', '.join(Plan)}")
    settings.address.check()
    tariff = find_tariff(settings.model, settings.prices)
    with reporter.stage("Reading logs"):
        read = read_records(logs, pair, reading).joined(reading.join)
        read.refuse_if_mostly_bad()
        found = original_requests(logs, [row for row in read.records if _is_only_strong(row)], pair, reading)
    candidates = [row for row in found if isinstance(row, ReplayRequest)]
    skipped = Counter(row for row in found if isinstance(row, Skipped))
    if not candidates:
        why = ", ".join(f"{reason} {count}" for reason, count in skipped.items())
        raise DataRefused(f"no row holds only the strong answer and can be replayed ({why or f'{read.n_rows} rows'})")
    drawn, shares = _sample([request.record for request in candidates], settings, reporter)
    requests = [candidates[row] for row in drawn]
    calls = [_call(request, settings, tariff) for request in requests]
    numbers = [int(row) for row in drawn]
    return ReplayPlan(requests, numbers, [float(shares[row]) for row in drawn], calls, len(candidates), dict(skipped))


def replay(plan: ReplayPlan, settings: ReplaySettings, pair: Pair, reporter: Reporter) -> Replayed:
    """Ask the weak model, from the cache where it knows.

    Where a cap ends it, rows beyond it are a random part of the sample, and the propensities say so.

    Raises:
        CallsMisused: there is no API key.
        CacheInUse: another run has the cache.
        EndpointRefused: the endpoint refuses every call.
    """
    cache = CallCache(settings.cache)
    try:
        outcomes = asyncio.run(_ask(plan.calls, cache, settings, reporter))
        usd, calls = cache.spent({call.key for call in plan.calls})
    finally:
        cache.close()
    failed = Counter(outcome for outcome in outcomes if isinstance(outcome, CallFailure))
    asked_share = 1 - failed[CallFailure.CAPPED] / len(outcomes)
    rows = [
        ReplayedRow(
            request, msgspec.json.decode(outcome, type=KeptAnswer), share * asked_share * request.route_propensity, pair
        )
        for request, share, outcome in zip(plan.requests, plan.shares, outcomes, strict=True)
        if isinstance(outcome, bytes)
    ]
    number = {request.record.place: number for request, number in zip(plan.requests, plan.numbers, strict=True)}
    rows.sort(key=lambda row: number[row.request.record.place])
    return Replayed(rows, dict(failed.most_common()), usd, calls)


async def _ask(calls: Sequence[Call], cache: CallCache, settings: ReplaySettings, reporter: Reporter) -> list[Outcome]:
    async with open_client(settings.address) as client:
        budget = Budget(settings.caps, *cache.spent({call.key for call in calls}))
        caller = Caller(client, cache, budget, partial(_keep, redacts=settings.redacts))
        with reporter.stage("Replaying", len(calls)) as advance:
            outcomes = await caller.ask_rows([(call,) for call in calls], settings.concurrency, advance)
    return [outcome for (outcome,) in outcomes]


def _sample(
    records: Sequence[Record], settings: ReplaySettings, reporter: Reporter
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the row numbers drawn, and the probability of every row."""
    strata = [""] * len(records)
    match Plan(settings.plan):
        case Plan.UNIFORM:
            shares = uniform_shares(len(records), settings.rows)
        case Plan.TASK:
            strata = [record.task or "" for record in records]
            shares = task_shares(strata, settings.rows)
        case Plan.UNCERTAINTY:
            bundle = load_bundle(find_bundle(settings.bundle))
            policy = bundle.manifest.policy("")
            predicted = predict_rows(bundle, records, policy, early_exit=False, reporter=reporter)
            p_match = np.array([np.nan if row.p_match is None else row.p_match for row in predicted])
            shares = uncertainty_shares(p_match, settings.rows)
    return draw(shares, strata, settings.seed), shares


def _call(request: ReplayRequest, settings: ReplaySettings, tariff: Tariff) -> Call:
    body = {name: value for name, value in request.body.items() if name in REPLAYED_FIELDS and value is not None}
    if not {"max_tokens", "max_completion_tokens"} & body.keys():
        body["max_completion_tokens"] = settings.max_answer_tokens
    body["model"] = settings.model
    return Call(key_of(purpose="replay", place=settings.address.place, body=body), body, tariff)


def _keep(reply: Reply, *, redacts: bool) -> bytes | None:
    if not reply.content and not reply.message.get("tool_calls"):
        return None
    usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
    known = {name: count for name, count in usage.items() if count is not None}
    message = redact_json(reply.message) if redacts else reply.message
    return msgspec.json.encode(KeptAnswer(message, known, round(reply.latency_ms, 1)))


def _is_only_strong(record: Record) -> bool:
    return bool(record.strong and record.strong.content) and record.weak is None
