"""Labelling by judges: asks them for the rows that nobody else could decide, and turns verdicts into labels.

Comes in: questions, which are walked through chunk by chunk and never held all at once. Goes out: each row's opinions
as they come, and `JudgedLabels`: the labels, and the figures to judge the judges by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.manifest import Pair
from turnout.training.calls.batch import BatchCaller
from turnout.training.calls.budget import Budget
from turnout.training.calls.cache import CallCache
from turnout.training.calls.call import Call, CallFailure, Keep
from turnout.training.calls.caller import Caller, Outcome
from turnout.training.calls.endpoint import open_client
from turnout.training.calls.sdk import openai
from turnout.training.calls.seen import distinct
from turnout.training.judge.confidence import Confidence, measure_confidence
from turnout.training.judge.opinions import NO_MATCH, Opinions, Votes
from turnout.training.judge.questions import Question
from turnout.training.judge.rubric import Judge, Rubric, calls_for, load_rubric
from turnout.training.judge.settings import BatchSettings, JudgeSettings, find_judges
from turnout.training.judge.verdicts import JudgeVerdict, read_opinion, verdict_of
from turnout.training.progress import Advance, Reporter

NAME = "judge"
CHUNK_ROWS = 500
"""Rows asked before the next are read: their calls are what is held in memory."""
CHUNK_WAVES = 16
"""Of calls in a chunk, at least: the last wave of each is not full, which costs some half of one."""

Questions = Iterable[Question]
"""Rows in the order of the logs; walked through several times, and the same each time."""


@dataclass(frozen=True)
class JudgePanel:
    """The judges, and what they are asked."""

    judges: tuple[Judge, ...]
    rubric: Rubric

    @classmethod
    def of(cls, settings: JudgeSettings, pair: Pair) -> JudgePanel:
        """Return the judges that the operator named; sends nothing.

        Raises:
            CallsMisused: judge, URL or rubric can't be used.
            PriceUnknown: a judge has no price.
        """
        return cls(tuple(find_judges(settings, pair)), load_rubric(settings.rubric))

    def calls(self, question: Question) -> list[tuple[Call, Call]]:
        """Return the two calls of each judge."""
        return [calls_for(question, judge, self.rubric) for judge in self.judges]


@dataclass(frozen=True)
class PanelCalls:
    """The calls of all questions, row by row and in a row judge by judge: where a cap ends it, rows are whole.

    They are made anew each time they are walked through.
    """

    questions: Questions
    panel: JudgePanel

    def __iter__(self) -> Iterator[tuple[Call, Call]]:
        for question in self.questions:
            yield from self.panel.calls(question)


@dataclass(frozen=True)
class JudgeLabels:
    """The labels of the rows that nobody else could decide, in the order of the logs.

    Attributes:
        match: (n,) 0, 1 or `NO_MATCH`.
        confidence: (n,) of each label.
    """

    match: NDArray[np.int8]
    confidence: NDArray[np.float64]


@dataclass(frozen=True)
class JudgedLabels:
    """What came of the judging.

    Attributes:
        votes: of all rows that were judged, known ones included.
        confidence: what a label by the judges is worth.
        usd, calls: what these rows have cost, in this run and those before it.
        is_capped: whether a cap left rows without a label.
    """

    votes: Votes
    confidence: Confidence
    usd: float
    calls: int
    is_capped: bool

    @property
    def labels(self) -> JudgeLabels:
        """The labels of the rows that had none."""
        rows = self.votes.known == NO_MATCH
        confidence = np.where(self.votes.is_tie[rows], self.confidence.tie, self.confidence.decided)
        return JudgeLabels(self.votes.joint[rows], confidence)


def judge_questions(
    questions: Questions,
    panel: JudgePanel,
    settings: JudgeSettings,
    reporter: Reporter,
    take: Callable[[Opinions], object],
) -> JudgedLabels:
    """Ask the judges, from the cache where it knows.

    Args:
        questions: rows to judge.
        panel: who is asked.
        settings: how, and within what caps.
        reporter: what is told of the progress.
        take: given each row's opinions, in the order of the rows.

    Raises:
        CallsMisused: there is no API key.
        CacheInUse: another run has the cache.
        EndpointRefused: the endpoint refuses every call.
        BatchPending: with the Batch API, a batch is not done.
    """
    votes = Votes(settings.models)
    cache = CallCache(settings.cache)
    try:
        asking = _Asking(questions, panel, settings, cache, reporter, votes, take)
        budget = asyncio.run(asking.ask())
    finally:
        cache.close()
    measured = (votes.known != NO_MATCH) & (votes.joint != NO_MATCH)
    columns = (column[measured].tolist() for column in (votes.known, votes.joint, votes.is_tie))
    confidence = measure_confidence(list(zip(*columns, strict=True)))
    return JudgedLabels(votes, confidence, budget.spent_usd, budget.n_calls, budget.is_reached)


@dataclass
class _Asking:
    questions: Questions
    panel: JudgePanel
    settings: JudgeSettings
    cache: CallCache
    reporter: Reporter
    votes: Votes
    take: Callable[[Opinions], object]
    n_rows: int = 0

    async def ask(self) -> Budget:
        """Ask all, and return what it has cost."""
        async with open_client(self.settings.address) as client:
            if self.settings.batch is None:
                return await self._in_chunks(client)
            return await self._in_batches(client, self.settings.batch)

    async def _in_chunks(self, client: openai.AsyncOpenAI) -> Budget:
        budget = Budget(self.settings.caps, *self.cache.spent(distinct(self._keys())))
        caller = Caller(client, self.cache, budget, self._keep)
        size = max(CHUNK_ROWS, CHUNK_WAVES * self.settings.concurrency)
        waiting = iter(self.questions)
        with self.reporter.stage("Judging", self.n_rows) as advance:
            while chunk := list(islice(waiting, size)):
                await self._ask_chunk(chunk, caller, advance)
        return budget

    async def _ask_chunk(self, chunk: Sequence[Question], caller: Caller, advance: Advance) -> None:
        calls = list(PanelCalls(chunk, self.panel))
        outcomes = iter(await caller.ask_rows(calls, self.settings.concurrency, advance))
        for question in chunk:
            self._taken(question, list(islice(outcomes, len(self.panel.judges))))

    async def _in_batches(self, client: openai.AsyncOpenAI, batch: BatchSettings) -> Budget:
        batches = BatchCaller(
            client, self.cache, self.settings.caps, self._keep, batch.wait_s, batch.poll_s, self.reporter.say
        )
        with self.reporter.stage("Judging in batches"):
            await batches.settle(PanelCalls(self.questions, self.panel))
            for question in self.questions:
                self._taken(question, [list(map(batches.outcome, calls)) for calls in self.panel.calls(question)])
        return batches.budget

    def _keys(self) -> Iterator[str]:
        for row in PanelCalls(self.questions, self.panel):
            self.n_rows += 1
            yield from (call.key for call in row)

    @property
    def _keep(self) -> Keep:
        return partial(read_opinion, keep_reason=self.settings.keeps_reasons, redacts=self.settings.redacts)

    def _taken(self, question: Question, outcomes: Sequence[Sequence[Outcome]]) -> None:
        row = Opinions(question, tuple(map(_verdict, outcomes)))
        self.votes.add(row)
        self.take(row)


def _verdict(outcomes: Sequence[Outcome]) -> JudgeVerdict | CallFailure:
    failed = [outcome for outcome in outcomes if isinstance(outcome, CallFailure)]
    kept = [outcome for outcome in outcomes if isinstance(outcome, bytes)]
    return failed[0] if failed else verdict_of(*kept)
