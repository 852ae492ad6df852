"""The ladder of a run: heads of the rungs between, and policies over all rungs.

Comes in: rows with labels of each rung, and the router of the pair of the two ends, solved. Goes out: `Climbing`: the
graph of the rungs between, policies over all rungs in place of the pair's, and what they do.

Each head learns from the rows that have its label; policies rest on those that have all. Every row is answered by fits
without its group, as the pair's rows are, and groups are those of all rows together.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from turnout.serving.bundles.ladder import Rung, rung_of
from turnout.serving.bundles.manifest import Pair
from turnout.serving.bundles.risk_path import level_of
from turnout.serving.router.features import Featurizer
from turnout.training.arrays import Floats
from turnout.training.bundle.rungs import check_rungs, export_rungs
from turnout.training.dataset.costs import CostsUnknown, RequestCosts
from turnout.training.dataset.ladder import NO_LABEL, LadderRead
from turnout.training.dataset.ladder_costs import ladder_check_usd
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.errors import DataRefused
from turnout.training.evaluation.ladder import LadderFigures, RungFigures
from turnout.training.fit.router import largest_weak_threshold
from turnout.training.fit.rungs import RungFit
from turnout.training.learn.ladder_figures import ladder_figures
from turnout.training.learn.rungs_between import MIN_GROUPS_AGAIN, Between, Heads
from turnout.training.learn.second_look import LearnedSecondLook
from turnout.training.policy.by_task import ByTask, said_of
from turnout.training.policy.default import default_policy
from turnout.training.policy.ladder import LadderRows
from turnout.training.policy.ladder_by_task import ladder_by_task, with_second_look_of_tasks
from turnout.training.policy.ladder_path import nominal_usd, trace, with_cap
from turnout.training.policy.ladder_solve import (
    climb_of,
    risk_path,
    share_of_rungs,
    solve_table,
    with_second_look,
)
from turnout.training.policy.policy import as_in_traffic
from turnout.training.policy.solve import LabelledLogOdds, Solved, calibrated
from turnout.training.policy.unread import testable
from turnout.training.progress import Reporter

PARITY_ROWS = 500


@dataclass(frozen=True)
class LadderLessons:
    """What a ladder is learned from.

    Attributes:
        read: n rows, of which the pair's are all learned from.
        names: of the rungs, the cheapest first.
        table: features of the n rows.
        costs: (n, k) USD, or why that can't be said.
    """

    read: LadderRead
    names: tuple[str, ...]
    table: FeatureTable
    costs: Floats | CostsUnknown

    @property
    def costs_of_ends(self) -> RequestCosts | CostsUnknown:
        """Of the pair's rows, at the first rung and at the top."""
        if isinstance(self.costs, CostsUnknown):
            return self.costs
        ours = self.costs[self.read.in_pair]
        return RequestCosts(ours[:, -1], ours[:, 0])

    @property
    def rungs(self) -> list[Rung]:
        """As the manifest has them, without figures."""
        return [rung_of(name) for name in self.names]


@dataclass(frozen=True)
class Choices:
    """What the operator chose of the policies.

    Attributes:
        wanted: name of the default one; empty leaves it to the rule.
        seed: of the draws.
        max_wait_twice: largest share of past traffic that may wait for two answers; None for no cap.
        by_task: promise that is solved task by task too; empty for none.
    """

    wanted: str
    seed: int
    max_wait_twice: float | None
    by_task: str = ""


@dataclass(frozen=True)
class Climbing:
    """What the rungs between add to a router.

    Attributes:
        graph: of the rungs between.
        solved: with the policies over all rungs.
        rungs: as the manifest has them.
        figures: what they are worth.
        rows: that the policies over one look rest on.
        looked_at: that those over two looks rest on; None without a second look.
    """

    graph: bytes
    solved: Solved
    rungs: list[Rung]
    figures: LadderFigures
    rows: LadderRows
    looked_at: LadderRows | None


def climb(
    lessons: LadderLessons,
    rows: LabelledLogOdds,
    heads: Heads,
    featurizer: Featurizer,
    choices: Choices,
    reporter: Reporter,
    solved: Solved,
    looked: LearnedSecondLook | None,
) -> Climbing:
    """Make the rungs between and solve the policies over all rungs.

    Args:
        lessons: the rows.
        rows: what the pair's are told, in the order of `lessons.read.pair`.
        heads: learns the rungs between, or calibrates them again.
        featurizer: as served.
        choices: the operator's.
        reporter: shows the stages.
        solved: the pair's.
        looked: the second look at rung 0's answers; None for none.
    """
    n_between, seed = len(lessons.names) - 2, choices.seed
    with reporter.stage(f"Making {n_between} rung{'s' if n_between > 1 else ''} between"):
        between = heads(lessons.read, lessons.table)
        graph = export_rungs(between.fit)
    largest = _check(graph, between.fit, lessons, featurizer)
    reporter.say(f"Parity of the rungs' graph and Python path: {largest:.1e}; {len(graph) / 2**20:.2f} MiB")
    with reporter.stage("Solving policies over all rungs"):
        seen = _rows(lessons, rows, between, solved, looked, seed)
        one, two = seen.one, seen.two
        levels = [] if (level := level_of(choices.wanted)) is None else [level]
        path = trace(_out_of_reach(one, between.kept))
        policies = solve_table(one, path, seed, levels)
        if two is not None:
            tried = _out_of_reach(two, between.kept)
            checked_path = trace(tried) if choices.max_wait_twice is None else with_cap(tried, choices.max_wait_twice)
            policies = with_second_look(policies, two, checked_path, seed)
        tasks = None
        if choices.by_task:
            tasks = _by_task(seen, choices)
            policies += tasks.policies
        below = {policy.name: 1.0 - share_of_rungs(one, climb_of(policy))[-1] for policy in policies}
        default, reason = default_policy(policies, choices.wanted, below)
        risk = risk_path(one, path, seed)
    reporter.say(
        f"Policies over all rungs are solved on {one.group.size} rows in {np.unique(one.group).size} groups that hold "
        "an outcome of every rung"
    )
    able = [rung - 1 for rung in range(1, n_between + 1) if rung not in between.kept]
    if able and not any(climb.t_rungs[rung] <= 1.0 for climb in path for rung in able):
        reporter.say("No rung between is ever worth its price on these rows: check --prices, or train a pair")
    if tasks is not None:
        reporter.say(said_of(tasks, choices.by_task))
    with reporter.stage("Evaluating the rungs"):
        figures = ladder_figures(lessons.read, lessons.names, between.told, one, two, policies, seed, between.kept)
    described = [
        between.kept.get(number) or _described(rung, found)
        for number, (rung, found) in enumerate(zip(lessons.rungs, figures.rungs, strict=True))
    ]
    over_all = replace(solved, policies=policies, default=default, reason=reason, risk=risk, by_task=tasks)
    return Climbing(graph, over_all, described, figures, one, two)


@dataclass(frozen=True)
class _Seen:
    """Rows as policies over one look and over two see them, and the task of each; `two` is None without a second."""

    one: LadderRows
    task: NDArray[np.str_]
    two: LadderRows | None
    task_of_two: NDArray[np.str_]


def _by_task(seen: _Seen, choices: Choices) -> ByTask:
    found = ladder_by_task(seen.one, seen.task, choices.by_task, choices.seed)
    if seen.two is None:
        return found
    policies = with_second_look_of_tasks(found.policies, seen.two, seen.task_of_two, choices.seed, found.level)
    return replace(found, policies=policies)


def _out_of_reach(rows: LadderRows, kept: Collection[int]) -> LadderRows:
    """Return rows on which some rungs cost more than the top, so that no path ever takes them."""
    if not kept:
        return rows
    usd = rows.usd.copy()
    usd[:, sorted(kept)] = 2.0 * usd[:, -1:]
    return replace(rows, usd=usd)


def _check(graph: bytes, fit: RungFit, lessons: LadderLessons, featurizer: Featurizer) -> float:
    records = lessons.read.records
    some = np.arange(len(records))[:: max(1, len(records) // PARITY_ROWS)][:PARITY_ROWS]
    prompts = [records[row].prompt for row in some]
    return check_rungs(graph, fit, featurizer, prompts, lessons.table.take(some))


def _rows(
    lessons: LadderLessons,
    rows: LabelledLogOdds,
    between: Between,
    solved: Solved,
    looked: LearnedSecondLook | None,
    seed: int,
) -> _Seen:
    """Return the rows with all labels, mixed as the traffic is, for one look and for two."""
    read = lessons.read
    known = [rung for rung in range(read.match.shape[1]) if rung not in between.kept]
    full = np.flatnonzero((read.match[:, known] != NO_LABEL).all(axis=1))
    if np.unique(read.group[full]).size < MIN_GROUPS_AGAIN:
        raise DataRefused(
            f"{full.size} rows hold an outcome of each of {', '.join(lessons.names)}, and policies over all rungs need "
            f"{MIN_GROUPS_AGAIN} groups of them; log some requests with all models"
        )
    at = np.searchsorted(read.in_pair, full)  # all of them have rung 0's label
    if rows.pair_propensity is not None:
        at = as_in_traffic(at, rows.pair_propensity, seed)
    full = read.in_pair[at]
    ours = rows.take(at)
    heads = calibrated(solved.router, ours.raw)
    band = solved.router.exit_band
    p_rungs = np.column_stack([one.p[full] for one in between.told])
    costs, is_priced = lessons.costs, not isinstance(lessons.costs, CostsUnknown)
    usd = nominal_usd(full.size, len(lessons.names)) if isinstance(costs, CostsUnknown) else costs[full]
    first = expit(largest_weak_threshold(heads, band))
    one = LadderRows(
        first,
        p_rungs,
        read.match[full],
        read.score[full],
        usd,
        read.group[full],
        is_priced,
        heads,
        band,
        is_unlike=ours.is_out_of_distribution(solved.router),
    )
    records = [read.pair.rows[row].record for row in at]
    task = np.array([record.task or "" for record in records])
    if looked is None:
        return _Seen(one, task, None, task)
    ends = Pair(strong=lessons.names[-1], weak=lessons.names[0])
    two = replace(
        one,
        second=looked.looked_at.second[at],
        check_usd=ladder_check_usd(records, ends, usd, is_priced=is_priced),
    )
    tests = testable(first, one.unlike, looked.has_answer[at], np.arange(at.size), seed)
    return _Seen(one, task, replace(two.take(tests.rows), is_unread=tests.is_unread), task[tests.rows])


def _described(rung: Rung, found: RungFigures) -> Rung:
    metrics = {name: value for name, value in found.figures.items() if value is not None}
    return msgspec.structs.replace(
        rung, rows=found.rows, match_rate=found.match_rate or 0.0, metrics=dict(metrics), intervals=found.intervals
    )
