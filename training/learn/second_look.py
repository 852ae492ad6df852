"""The second look of a run: learned or calibrated, put into the policies, and judged.

Comes in: the answers among the rows, what the first look says of the rows out of fold, and the solved router. Goes out:
`LearnedSecondLook`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from turnout.serving.bundles.manifest import Pair
from turnout.serving.bundles.policy import Policy
from turnout.serving.bundles.second_look import SecondLook
from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.check.learn import FirstLook, LearnedCheck, NoCheck, Rows
from turnout.training.dataset.answers import Answers
from turnout.training.dataset.costs import RequestCosts, self_check_usd
from turnout.training.dataset.dataset import Dataset
from turnout.training.dataset.outcomes import Outcomes
from turnout.training.evaluation.figures import flat
from turnout.training.evaluation.looks import SignalKind, TwoLooks
from turnout.training.evaluation.two_looks import BothLooks, judge_two_looks
from turnout.training.fit.router import largest_weak_threshold
from turnout.training.learn.spreads import Spreads, second_look_spreads
from turnout.training.logs.records import Record, Response
from turnout.training.policy.checked import always_try, with_second_look, with_second_look_by_task
from turnout.training.policy.policy import as_in_traffic
from turnout.training.policy.solve import LabelledLogOdds, Solved, calibrated
from turnout.training.policy.three_actions import Costs, LookedAt
from turnout.training.policy.unread import testable
from turnout.training.progress import Reporter

DEFAULT_WEAK_COST_SHARE = 1 / 16.7
"""Of gpt-4o-mini and gpt-4o at their list prices, input and output alike; where the log's own costs are unknown."""

Learner = Callable[[Answers, Rows, FirstLook], LearnedCheck | NoCheck]
"""Learns the second look from nothing, or calibrates an earlier one again."""


@dataclass(frozen=True)
class LearnedSecondLook:
    """What the second look adds to a router: its graph, the policies over three actions, and what it is worth.

    `looked_at` are the rows as rules see them, `has_answer` (n,) which of them hold an answer of the weak model.
    """

    graph: bytes
    policies: list[Policy]
    described: SecondLook
    judged: TwoLooks
    looked_at: LookedAt
    has_answer: Bools


@dataclass(frozen=True)
class Looking:
    """What is looked at again: n labelled rows of a dataset, and what the operator chose.

    Attributes:
        data: where the rows stand.
        kept: (n,) their numbers in it.
        rows: what fits without their group say of them.
        answers: the weak model's, among them.
        pair: of the models.
        seed: of the draws.
        max_wait_twice: largest share of past traffic that may wait for both models; None for no cap.
    """

    data: Dataset
    kept: Ints
    rows: LabelledLogOdds
    answers: Answers
    pair: Pair
    seed: int
    max_wait_twice: float | None = None

    @property
    def records(self) -> list[Record]:
        """Of the n rows."""
        return [self.data.rows[row].record for row in self.kept]

    @property
    def task(self) -> NDArray[np.str_]:
        """(n,) names; empty where the log names none."""
        return np.array([record.task or "" for record in self.records])

    def outcomes(self, of: Ints, p_match: Floats) -> Outcomes:
        """Return what `evaluate` reads, for numbers among the n rows."""
        return self.data.outcomes(self.kept[of], p_match, np.ones(of.size, dtype=bool))


def look_again(looking: Looking, solved: Solved, learn: Learner, reporter: Reporter) -> LearnedSecondLook | None:
    """Learn the second look; None where there are too few answers, and the reporter says so."""
    rows = looking.rows
    heads = calibrated(solved.router, rows.raw)
    p_route = expit(largest_weak_threshold(heads, solved.router.exit_band))
    first = FirstLook(heads.fast, p_route, rows.is_out_of_distribution(solved.router))
    source = np.array([record.source or "" for record in looking.records])
    with reporter.stage("Learning the second look"):
        weight = looking.data.weight[looking.kept]
        found = learn(looking.answers, Rows(rows.match, rows.group, weight, source), first)
    if isinstance(found, NoCheck):
        reporter.say(f"No second look: {found.reason}")
        return None
    looked_at = looked_at_rows(looking, first, found)
    some = np.arange(rows.match.size)
    if rows.pair_propensity is not None:
        some = as_in_traffic(some, rows.pair_propensity, looking.seed)
    has_answer = np.zeros(rows.match.size, dtype=bool)
    has_answer[found.place] = True
    tests = testable(first.p_route, first.is_unlike, has_answer, some, looking.seed)
    if tests.is_unread.any():
        reporter.say(
            f"{int((~has_answer).sum())} of {has_answer.size} rows hold no answer of the weak model, not by chance; "
            "promises over three actions count those that would be tried as shown"
        )
    some = tests.rows
    with reporter.stage("Solving policies over three actions"):
        tested = replace(looked_at.take(some), is_unread=tests.is_unread)
        policies = with_second_look(
            solved.policies, tested, tested, looking.seed, max_wait_twice=looking.max_wait_twice
        )
        if solved.by_task is not None:
            task = looking.task[some]
            policies = with_second_look_by_task(policies, tested, task, looking.seed, solved.by_task.level)
        tried = always_try(policies, tested, looking.seed)
    with reporter.stage("Evaluating the second look"):
        judged = judge_two_looks(
            _both(looking, looked_at, found),
            looking.outcomes,
            policies,
            solved.default,
            always_try=tried,
            seed=looking.seed,
        )
    spreads = _spreads(looking, first, found, policies, solved.default)
    described = msgspec.structs.replace(_described(judged, found), **spreads)
    return LearnedSecondLook(found.graph, policies, described, judged, looked_at, has_answer)


def _spreads(looking: Looking, first: FirstLook, found: LearnedCheck, policies: list[Policy], default: str) -> Spreads:
    """Return how the measures of the answers lie that the default policy would try."""
    checked = next((one.checked for one in policies if one.name == default), None)
    p_checked = np.full(looking.rows.match.size, np.nan)
    p_checked[found.place] = found.p_checked
    return second_look_spreads(looking.records, p_checked, first, checked)


def looked_at_rows(looking: Looking, first: FirstLook, found: LearnedCheck) -> LookedAt:
    """Return the rows as rules see them.

    A row without an answer is tried as if nothing could be said of its answer, which escalates it; promises do not
    rest on that (`policy.unread`). The path of
    candidates is traced on the rows that test it: it follows from p_match and costs alone, and no label chose it.
    """
    rows = looking.rows
    second = np.full(rows.match.size, -1.0)
    second[found.place] = np.nan_to_num(found.p_checked, nan=-1.0)
    costs = look_costs(rows.costs, self_check_usd(looking.records, looking.pair))
    return LookedAt(
        first.p_route, second, rows.match, rows.weak_score, rows.strong_score, rows.group, costs, first.is_unlike
    )


def look_costs(costs: RequestCosts | None, check_usd: Floats) -> Costs:
    """Return the costs of rows; those unknown get the mean of the others, all of them list prices' shares.

    Args:
        costs: of the requests at either model; None where they are unknown.
        check_usd: (n,) what a self-check costs; NaN where one was made of unknown cost, 0 where none was.
    """
    if costs is None:
        ones, was_checked = np.ones(check_usd.size), np.isnan(check_usd) | (check_usd > 0.0)
        weak = ones * DEFAULT_WEAK_COST_SHARE
        return Costs(weak, ones, np.where(was_checked, weak, 0.0))
    weak, strong = (np.where(costs.is_known, usd, usd[costs.is_known].mean()) for usd in (costs.weak, costs.strong))
    return Costs(weak, strong, np.where(np.isnan(check_usd), weak, check_usd))


def _both(looking: Looking, looked_at: LookedAt, found: LearnedCheck) -> BothLooks:
    records = looking.records
    return BothLooks(
        looked_at,
        found.place,
        found.p_checked,
        found.p_calibration,
        found.kind,
        found.parts,
        latencies([record.weak for record in records]),
        latencies([record.strong for record in records]),
    )


def latencies(answers: Sequence[Response | None]) -> Floats:
    """Return (n,) milliseconds; NaN for unknown."""
    found = [None if answer is None else answer.latency_ms for answer in answers]
    return np.array([np.nan if one is None else one for one in found], dtype=np.float64)


def _described(judged: TwoLooks, found: LearnedCheck) -> SecondLook:
    """Return what the manifest says: figures over all answers, and of those with a signal, the largest kind's."""
    signalled = [kind for kind in judged.kinds if kind.name == "any"]
    alone: SignalKind | None = signalled[0] if signalled else None
    return SecondLook(
        rows=int(found.place.size),
        signals=int((found.kind > 0).sum()),
        sources=found.n_sources,
        n=judged.n,
        metrics=flat(judged.metrics),
        intervals=_known(judged.intervals),
        n_signals=0 if alone is None else alone.n,
        metrics_signals={} if alone is None else flat(alone.metrics),
        intervals_signals={} if alone is None else _known(alone.intervals),
    )


def _known(intervals: dict[str, tuple[float, float] | None]) -> dict[str, tuple[float, float]]:
    return {name: bounds for name, bounds in intervals.items() if bounds is not None}
