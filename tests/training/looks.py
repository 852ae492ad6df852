"""Rows that both looks have judged, made from a seed: a second look that knows more than the first."""

from __future__ import annotations

import msgspec
import numpy as np

from tests.training.manifests import PROMISE, make_manifest
from turnout.serving.bundles.manifest import Manifest
from turnout.training.dataset.outcomes import Outcomes
from turnout.training.evaluation.looks import TwoLooks
from turnout.training.evaluation.two_looks import BothLooks, judge_two_looks
from turnout.training.policy.checked import with_second_look
from turnout.training.policy.three_actions import Costs, LookedAt

WEAK_USD, STRONG_USD, CHECK_USD = 0.06, 1.0, 0.02
PROMISE_OF_TEN = msgspec.structs.replace(PROMISE, name="max_worse=0.1", target=0.1, threshold=0.93)


def both_looks(outcomes: Outcomes, *, seed: int = 0, timed: bool = True) -> BothLooks:
    """Return what both looks say of the rows: every tenth has no answer, two of three of the others a signal."""
    rng = np.random.default_rng(seed)
    n = outcomes.match.size
    answered = np.flatnonzero(np.arange(n) % 10 != 0)
    kind = answered % 3
    prompt = np.log(outcomes.p_match / (1 - outcomes.p_match))[answered]
    answer = rng.normal(0.0, 0.3, answered.size)
    signals = np.where(kind > 0, 2.5 * (outcomes.match[answered] - 0.8) + rng.normal(0, 1.0, answered.size), 0.0)
    p_checked = 1 / (1 + np.exp(-(prompt + answer + signals)))
    second = np.full(n, -1.0)
    second[answered] = p_checked
    checks = np.zeros(n)
    checks[answered[kind == 1]] = CHECK_USD
    ones = np.ones(n)
    rows = LookedAt(
        outcomes.p_match,
        second,
        outcomes.match,
        outcomes.weak_score,
        outcomes.strong_score,
        outcomes.group,
        Costs(ones * WEAK_USD, ones * STRONG_USD, checks),
    )
    ms = (rng.uniform(200, 400, n), rng.uniform(800, 1600, n)) if timed else (ones * np.nan, ones * np.nan)
    return BothLooks(rows, answered, p_checked, p_checked, kind, np.column_stack((prompt, answer, signals)), *ms)


def checked_manifest(looks: BothLooks) -> Manifest:
    """Return a manifest whose default policy has a rule over three actions, solved on these rows."""
    policies = with_second_look([PROMISE_OF_TEN, PROMISE], looks.rows, looks.rows, 0)
    return make_manifest(policies=policies, default_policy=PROMISE_OF_TEN.name)


def judged(outcomes: Outcomes, looks: BothLooks, manifest: Manifest, **options: object) -> TwoLooks:
    """Return the judgement of the manifest's policies."""

    def outcomes_of(rows: np.ndarray, p_match: np.ndarray) -> Outcomes:
        whole = {name: getattr(outcomes, name) for name in Outcomes.__slots__}
        taken = {
            name: [column[row] for row in rows.tolist()] if isinstance(column, list) else column[rows]
            for name, column in whole.items()
            if column is not None
        }
        return Outcomes(**(taken | {"p_match": p_match}))

    options = {"seed": 0, "n_bootstraps": 40, **options}
    return judge_two_looks(looks, outcomes_of, manifest.policies, manifest.default_policy, **options)
