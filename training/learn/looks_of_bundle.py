"""The second look of a published bundle on rows that it has not seen, as it would be served.

Comes in: a bundle with a second look, labelled rows, and what its first look says of them. Goes out: `TwoLooks`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.special import expit

from turnout.serving.bundles.bundle import CHECKER, Bundle
from turnout.serving.decision.judging import look_again
from turnout.serving.router.answer import Answer, Signals
from turnout.serving.router.checker import CheckHead
from turnout.serving.router.exit_band import ExitBand
from turnout.serving.router.prompt import Prompt
from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.check.reopen import reopen_checker
from turnout.training.check.rows import CheckRows
from turnout.training.dataset.answers import Answers
from turnout.training.dataset.costs import RequestCosts, request_costs, self_check_usd
from turnout.training.dataset.dataset import Dataset
from turnout.training.dataset.outcomes import Outcomes
from turnout.training.evaluation.looks import TwoLooks
from turnout.training.evaluation.two_looks import BothLooks, judge_two_looks
from turnout.training.fit.router import HeadLogOdds, largest_weak_threshold
from turnout.training.learn.second_look import latencies, look_costs
from turnout.training.logs.weak_answers import answer_of
from turnout.training.policy.three_actions import LookedAt

MIN_ANSWERS = 20


def ask_second_look(
    bundle: Bundle, data: Dataset, rows: Ints, heads: HeadLogOdds, is_unlike: Bools
) -> BothLooks | None:
    """Return what both looks say of rows; None without a second look, or if it vouches for too few of either outcome.

    Args:
        bundle: to ask.
        data: where the rows stand.
        rows: (n,) their numbers.
        heads: (n,) calibrated log-odds of both heads of the first look.
        is_unlike: (n,) whether the prompt is unlike the training data.
    """
    if bundle.checker is None:
        return None
    records = [data.rows[row].record for row in rows]
    answers = Answers.of(records, bundle.model.featurize.ngrams)
    match = data.match[rows]
    if answers.place.size < MIN_ANSWERS:
        return None
    asked = [(record.prompt, *found) for record in records if (found := answer_of(record)) is not None]
    p_checked = _asked(bundle, asked)
    vouched = match[answers.place[~np.isnan(p_checked)]]
    if vouched.size < MIN_ANSWERS or np.unique(vouched).size < 2:
        return None
    checker, _ = reopen_checker((bundle.folder / CHECKER).read_bytes())
    features = CheckRows.of(answers.rows, heads.fast[answers.place])
    second = np.full(rows.size, -1.0)
    second[answers.place] = np.nan_to_num(p_checked, nan=-1.0)
    band = bundle.manifest.exit_band_by_threshold or ExitBand.constant(bundle.manifest.exit_band)
    costs = request_costs(records, bundle.manifest.pair)
    looked_at = LookedAt(
        expit(largest_weak_threshold(heads, band)),
        second,
        match,
        data.weak_score[rows],
        data.strong_score[rows],
        data.groups.group[rows],
        look_costs(costs if isinstance(costs, RequestCosts) else None, self_check_usd(records, bundle.manifest.pair)),
        is_unlike,
    )
    return BothLooks(
        looked_at,
        answers.place,
        p_checked,
        p_checked,
        checker.gate.cell(features),
        checker.parts(features),
        latencies([record.weak for record in records]),
        latencies([record.strong for record in records]),
    )


def judge_looks(looks: BothLooks, bundle: Bundle, data: Dataset, rows: Ints, policy: str, seed: int) -> TwoLooks:
    """Return what both looks and the rules over three actions are worth.

    Args:
        looks: what was said of the rows.
        bundle: whose policies are judged.
        data: where the rows stand.
        rows: (n,) their numbers.
        policy: name of the one whose waiting is shown.
        seed: of bootstraps and draws.
    """

    def outcomes(of: Ints, p_match: Floats) -> Outcomes:
        return data.outcomes(rows[of], p_match, np.ones(of.size, dtype=bool))

    return judge_two_looks(looks, outcomes, bundle.manifest.policies, policy, seed=seed)


def _asked(bundle: Bundle, asked: list[tuple[Prompt, Answer, Signals]]) -> Floats:
    """Return p_match of the second look as served; NaN where nothing vouches for an answer."""

    def ask(one: tuple[Prompt, Answer, Signals]) -> float:
        found = look_again(bundle, *one)
        return float("nan") if found.head is CheckHead.NONE else found.p_match

    with ThreadPoolExecutor() as pool:
        return np.array(list(pool.map(ask, asked)), dtype=np.float64)
