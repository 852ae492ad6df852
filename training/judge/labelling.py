"""Labelling by judges: asks them for the rows that nobody else could decide, and turns verdicts into labels.

Comes in: records and what the other labellers made of them. Goes out: `Judged`: the same with the judges'
labels added, every verdict, and the figures to judge the judges by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from serving.bundle import Pair
from training.calls.batch import BatchCaller
from training.calls.budget import Budget
from training.calls.cache import CallCache
from training.calls.call import Call, Failure
from training.calls.caller import Caller, Outcome
from training.calls.endpoint import open_client
from training.judge.confidence import Confidence, measure_confidence
from training.judge.rubric import calls_for, load_rubric
from training.judge.settings import JudgeSettings, find_judges
from training.judge.verdicts import Verdict, read_opinion, verdict_of
from training.labels import Labelled, agreement
from training.progress import Reporter
from training.records import Label, Record

NAME = "judge"


@dataclass(frozen=True, slots=True)
class Opinions:
    """What the judges say of one record, in the order of the judges.

    Attributes:
        record: the row.
        known: its label by another labeller, for rows judged only to measure the judges.
        verdicts: a verdict, or why there is none.
    """

    record: Record
    known: Label | None
    verdicts: tuple[Verdict | Failure, ...]

    @property
    def match(self) -> int | None:
        """The majority's label, the first judge's where votes are even; None when no judge gave any."""
        votes = [verdict.match for verdict in self.verdicts if isinstance(verdict, Verdict)]
        if not votes:
            return None
        return votes[0] if 2 * sum(votes) == len(votes) else int(2 * sum(votes) > len(votes))

    @property
    def is_tie(self) -> bool:
        """Whether the label rests on a tie: no judge preferred the weak answer, nor most of them the strong one."""
        winners = [verdict.winner for verdict in self.verdicts if isinstance(verdict, Verdict)]
        return self.match == 1 and "weak" not in winners


@dataclass(frozen=True)
class Judged:
    """What came of the judging.

    Attributes:
        labelled: all labels, the judges' among them, in the order of the records.
        opinions: every row that was judged, known ones included, in the order of the records.
        models: the judges.
        confidence: what a label by them is worth.
        usd, calls: what these rows have cost, in this run and those before it.
        is_capped: whether a cap left rows without a label.
    """

    labelled: Labelled
    opinions: list[Opinions]
    models: tuple[str, ...]
    confidence: Confidence
    usd: float
    calls: int
    is_capped: bool


@dataclass(frozen=True)
class Plan:
    """The rows to judge, and for each judge and row the two calls."""

    rows: list[tuple[Record, Label | None]]
    calls: list[list[tuple[Call, Call]]]

    @property
    def flat(self) -> list[tuple[Call, Call]]:
        """Row by row, and in a row judge by judge: where a cap ends it, rows are whole."""
        return [judge[row] for row in range(len(self.rows)) for judge in self.calls]


def plan_judging(records: Sequence[Record], found: Labelled, pair: Pair, settings: JudgeSettings) -> Plan:
    """Choose the rows: those that are undecided, and a sample of those whose label is known; sends nothing.

    Raises:
        CallsMisused: judge, URL or rubric can't be used.
        PriceUnknown: a judge has no price.
    """
    judges = find_judges(settings, pair)
    rubric = load_rubric(settings.rubric)
    labels = {row.record.place: row.label for row in found.labelled}
    known = [row for row in found.labelled if row.label.family != agreement.NAME and _has_both(row.record)]
    generator = np.random.default_rng(settings.seed)
    drawn = generator.permutation(len(known))[: settings.known_rows]
    sampled = {known[index].record.place for index in drawn}
    rows = []
    for record in records:
        place = record.place
        if place in sampled or (place not in labels and not record.prompt.is_empty and _has_both(record)):
            rows.append((record, labels.get(place)))
    return Plan(rows, [[calls_for(record, judge, rubric) for record, _ in rows] for judge in judges])


def judge_rows(
    records: Sequence[Record], found: Labelled, plan: Plan, settings: JudgeSettings, reporter: Reporter
) -> Judged:
    """Ask the judges, from the cache where it knows, and label by what they say.

    Raises:
        CallsMisused: there is no API key.
        CacheInUse: another run has the cache.
        EndpointRefused: the endpoint refuses every call.
        BatchPending: with the Batch API, a batch is not done.
    """
    cache = CallCache(settings.cache)
    try:
        outcomes, is_capped = asyncio.run(_ask(plan, cache, settings, reporter))
        usd, calls = cache.spent({call.key for row in plan.flat for call in row})
    finally:
        cache.close()
    n_judges = len(plan.calls)
    opinions = [
        Opinions(record, known, tuple(map(_verdict, outcomes[row * n_judges : (row + 1) * n_judges])))
        for row, (record, known) in enumerate(plan.rows)
    ]
    confidence = measure_confidence(
        [(row.known.match, row.match, row.is_tie) for row in opinions if row.known and row.match is not None]
    )
    labelled = _with_labels(records, found, opinions, confidence)
    return Judged(labelled, opinions, settings.models, confidence, usd, calls, is_capped)


async def _ask(
    plan: Plan, cache: CallCache, settings: JudgeSettings, reporter: Reporter
) -> tuple[list[list[Outcome]], bool]:
    rows = plan.flat
    keep = partial(read_opinion, keep_reason=settings.keeps_reasons, redacts=settings.redacts)
    async with open_client(settings.address) as client:
        if settings.batch is not None:
            batches = BatchCaller(
                client, cache, settings.caps, keep, settings.batch.wait_s, settings.batch.poll_s, reporter.say
            )
            with reporter.stage("Judging in batches"):
                return await batches.ask_rows(rows), batches.is_reached
        budget = Budget(settings.caps, *cache.spent({call.key for row in rows for call in row}))
        caller = Caller(client, cache, budget, keep)
        with reporter.stage("Judging", len(rows)) as advance:
            return await caller.ask_rows(rows, settings.concurrency, advance), budget.is_reached


def _verdict(outcomes: Sequence[Outcome]) -> Verdict | Failure:
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    kept = [outcome for outcome in outcomes if isinstance(outcome, bytes)]
    return failed[0] if failed else verdict_of(*kept)


def _with_labels(
    records: Sequence[Record], found: Labelled, opinions: Sequence[Opinions], confidence: Confidence
) -> Labelled:
    judged = {
        row.record.place: Label(row.match, NAME, confidence.of(is_tie=row.is_tie))
        for row in opinions
        if row.known is None and row.match is not None
    }
    made = zip(records, found.decisions, strict=True)
    return Labelled.of(records, [judged.get(record.place, decision) for record, decision in made])


def _has_both(record: Record) -> bool:
    return bool(record.strong and record.strong.content and record.weak and record.weak.content)
