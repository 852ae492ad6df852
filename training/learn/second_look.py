"""The second look of a training run: learned, put into the policies, and judged.

Comes in: the rows with what they were told out of fold, and the solved router. Goes out: `Looked`.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from turnout.serving.bundles.bundle import Policy
from turnout.serving.bundles.second_look import SecondLook
from turnout.serving.router.checker import Ngrams
from turnout.training.arrays import Ints
from turnout.training.check.learn import FirstLook, LearnedCheck, NoCheck, Rows, learn_check
from turnout.training.dataset.costs import RequestCosts
from turnout.training.dataset.dataset import Dataset
from turnout.training.evaluation.evaluate import evaluate
from turnout.training.evaluation.evaluation import Evaluation, flat
from turnout.training.fit.router import largest_weak_threshold
from turnout.training.learn.spreads import second_look_spreads
from turnout.training.policy.policy import as_in_traffic
from turnout.training.policy.solve import LabelledLogOdds, Solved, calibrated
from turnout.training.policy.three_actions import Costs, LookedAt, with_second_look
from turnout.training.progress import Reporter

DEFAULT_WEAK_COST_SHARE = 1 / 16.7
"""Of gpt-4o-mini and gpt-4o at their list prices, input and output alike; where the log's own costs are unknown."""

MIN_SIGNAL_ROWS = 200
"""Rows with a signal from which their figures are shown on their own."""


@dataclass(frozen=True)
class Looked:
    """What the second look adds to a router: its graph, the policies over three actions, and what it is worth."""

    graph: bytes
    policies: list[Policy]
    described: SecondLook


def look_again(
    data: Dataset, kept: Ints, rows: LabelledLogOdds, solved: Solved, ngrams: Ngrams, seed: int, reporter: Reporter
) -> Looked | None:
    """Learn the second look; None where the log holds too few answers, and the reporter says so.

    Args:
        data: where the rows stand.
        kept: numbers of the n rows in `data`.
        rows: what fits without their group say of them.
        solved: the router, calibrated on these answers, with its policies.
        ngrams: reads answers as the router reads prompts.
        seed: of the draws.
        reporter: shows the stages.
    """
    heads = calibrated(solved.router, rows.raw)
    p_route = expit(largest_weak_threshold(heads, solved.router.exit_band))
    first = FirstLook(heads.fast, p_route, rows.is_out_of_distribution(solved.router))
    with reporter.stage("Learning the second look"):
        records = [data.rows[row].record for row in kept]
        found = learn_check(records, Rows(rows.match, rows.group, data.weight[kept]), first, ngrams)
    if isinstance(found, NoCheck):
        reporter.say(f"No second look: {found.reason}")
        return None
    with reporter.stage("Solving policies over three actions"):
        policies = _policies(rows, solved, first, found, seed)
    default = next((one for one in policies if one.name == solved.default), None)
    with reporter.stage("Evaluating the second look"):
        described = _described(data, kept, found, seed)
        spreads = second_look_spreads(records, found.p_checked, first, None if default is None else default.checked)
        return Looked(found.graph, policies, msgspec.structs.replace(described, **spreads))


def _policies(rows: LabelledLogOdds, solved: Solved, first: FirstLook, found: LearnedCheck, seed: int) -> list[Policy]:
    """Solve the policies over three actions on the rows that solved those over two.

    The path of candidates is traced on the same rows: it follows from p_match and costs alone, and no label chose it. A
    row without an answer is tried as if nothing could be said of its answer, which escalates it.
    """
    some = np.arange(rows.match.size)
    if rows.pair_propensity is not None:
        some = as_in_traffic(some, rows.pair_propensity, seed)
    ones = np.ones(some.size)
    looked_at = LookedAt(
        first.p_route[some],
        np.nan_to_num(found.p_checked[some], nan=-1.0),
        rows.match[some],
        rows.weak_score[some],
        rows.strong_score[some],
        rows.group[some],
        Costs(ones * _weak_cost_share(rows.costs), ones, np.zeros(some.size)),
        first.is_unlike[some],
    )
    return with_second_look(solved.policies, looked_at, looked_at, seed)


def _weak_cost_share(costs: RequestCosts | None) -> float:
    """Return what the weak model costs of what the strong one does, by the log's own tokens where they are known."""
    if costs is None:
        return DEFAULT_WEAK_COST_SHARE
    known = costs.is_known
    return float(costs.weak[known].sum() / costs.strong[known].sum())


def _described(data: Dataset, kept: Ints, found: LearnedCheck, seed: int) -> SecondLook:
    answered = np.flatnonzero(found.p_checked >= 0.0)  # where nothing vouches for an answer there is no probability
    signalled = answered[found.has_signal[answered]]

    def figures(places: NDArray[np.int64]) -> Evaluation:
        p_match = np.clip(found.p_checked[places], 1e-6, 1 - 1e-6)
        return evaluate(data.outcomes(kept[places], p_match, np.ones(places.size, dtype=bool)), n_seen=0, seed=seed)

    whole = figures(answered)
    alone = figures(signalled) if signalled.size >= MIN_SIGNAL_ROWS else None
    return SecondLook(
        rows=found.n_rows,
        signals=int(signalled.size),
        sources=found.n_sources,
        n=int(answered.size),
        metrics=flat(whole),
        intervals=_known(whole),
        n_signals=int(signalled.size),
        metrics_signals={} if alone is None else flat(alone),
        intervals_signals={} if alone is None else _known(alone),
    )


def _known(evaluation: Evaluation) -> dict[str, tuple[float, float]]:
    return {name: bounds for name, bounds in evaluation.intervals.items() if bounds is not None}
