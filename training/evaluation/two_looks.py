"""Both looks judged: the second look's figures by kind of signal, and what rules over three actions do.

Comes in: `BothLooks`, rows with what either look said of them without having seen their group, and the rules of the
policies. Goes out: `TwoLooks`. Bounds and intervals are over groups, as everywhere; a promise's thresholds were solved
apart from this, and are only looked at here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.policy import NEVER, Policy
from turnout.training.arrays import Floats, Ints
from turnout.training.dataset.outcomes import Outcomes
from turnout.training.evaluation import metrics
from turnout.training.evaluation.evaluate import Measured, measure, reliability
from turnout.training.evaluation.looks import Landing, SignalKind, TwoLooks, WaitingTimes
from turnout.training.evaluation.rules import Rule, judge_rules, trace
from turnout.training.policy.by_task import AT
from turnout.training.policy.policy import DELTA
from turnout.training.policy.three_actions import LookedAt, Thresholds, trace_path

KINDS = ("none", "self_check", "mean_logprob", "both")
"""By number, which signals counted (`training.check.fit.SignalGate.cell`)."""

ANY = "any"
"""All of them but the first."""

PARTS = ("prompt", "answer", "signals")
MIN_KIND_ROWS = 200
"""Answers with a kind of signal from which it has figures of its own."""

FEWER_BOOTSTRAPS = 300
"""Of kinds of signal, calibration figures and bands, which are fifteen times as many numbers as the rest."""

MIN_TIMED_ROWS = 100
PERCENTILES = (50, 75, 90, 95, 99)
LEAST_P = 1e-6
CALIBRATION_FIGURES = ("ece", "ece_floor", "brier", "log_loss")


@dataclass(frozen=True)
class BothLooks:
    """What both looks said of n rows, m of which have an answer of the weak model.

    Attributes:
        rows: as rules see them; `second` is -1 where the second look has nothing to say.
        answered: (m,) numbers of the rows with an answer.
        p_checked: (m,) p_match of the second look; NaN where nothing vouches for the answer.
        p_calibration: (m,) the same by calibrators that have not seen the row either.
        kind: (m,) places in `KINDS`.
        parts: (m, 3) log-odds that each of `PARTS` adds; None where they are unknown.
        weak_ms, strong_ms: (n,) latencies of the answers; NaN for unknown.
    """

    rows: LookedAt
    answered: Ints
    p_checked: Floats
    p_calibration: Floats
    kind: Ints
    parts: Floats | None
    weak_ms: Floats
    strong_ms: Floats


OutcomesOf = Callable[[Ints, Floats], Outcomes]
"""From row numbers and p_match to what `evaluate` reads."""


def judge_two_looks(
    looks: BothLooks,
    outcomes_of: OutcomesOf,
    policies: Sequence[Policy],
    default: str,
    *,
    always_try: Mapping[str, Thresholds] | None = None,
    seed: int,
    n_bootstraps: int = 1000,
) -> TwoLooks:
    """Return what the second look and the rules are worth.

    Args:
        looks: the rows.
        outcomes_of: of their numbers.
        policies: those with a promise or a rule over three actions are shown.
        default: name of the one whose waiting is shown.
        always_try: thresholds that keep each promise where every request is tried, by policy.
        seed: of bootstraps and draws.
        n_bootstraps: 0 for no intervals.
    """
    fewer = min(n_bootstraps, FEWER_BOOTSTRAPS)
    rules = {
        policy.name: _rules_of(policy, always_try or {})
        for policy in policies
        if policy.delta is not None and AT not in policy.name
    }
    paths = {
        name: trace(looks.rows, points, [rule[name] for rule in rules.values() if name in rule], seed, fewer)
        for name, points in _ways(looks.rows).items()
    }
    known = np.flatnonzero(~np.isnan(looks.p_checked))
    whole = _measured(looks, outcomes_of, known, seed, n_bootstraps)
    first = outcomes_of(looks.answered[known], _inside(looks.rows.first[looks.answered[known]]))
    return TwoLooks(
        n=int(known.size),
        n_unanswered=int(looks.rows.match.size - looks.answered.size),
        n_unvouched=int(looks.answered.size - known.size),
        metrics=whole.metrics,
        intervals=whole.intervals,
        first=measure(first, seed=seed, n_bootstraps=0).metrics,
        kinds=_kinds(looks, outcomes_of, known, seed, fewer),
        paths=paths,
        landings=_landings(looks.rows, rules, seed, n_bootstraps),
        waiting=_waiting(looks, default, rules.get(default, {})),
        delta=DELTA,
    )


def _rules_of(policy: Policy, always_try: Mapping[str, Thresholds]) -> dict[str, Rule]:
    """Return the ways of keeping a policy's promise that there are."""
    found: dict[str, Rule] = {}
    if policy.is_met:
        found["one_look"] = Thresholds(policy.threshold, policy.threshold, NEVER)
    if policy.checked is not None and policy.checked.is_met:
        found["two_looks"] = Thresholds(policy.checked.t_strong, policy.checked.t_weak, policy.checked.t_accept)
    if policy.name in always_try:
        found["always_try"] = always_try[policy.name]
    return found


def _ways(rows: LookedAt) -> dict[str, list[Rule]]:
    cuts = np.unique(np.quantile(rows.first, np.linspace(0.0, 1.0, 401), method="lower"))[::-1]
    return {
        "one_look": [Thresholds(cut, cut, NEVER) for cut in (NEVER, *cuts.tolist(), 0.0)],
        "two_looks": trace_path(rows),
        "always_try": trace_path(rows, kinds=("try",)),
    }


def _measured(looks: BothLooks, outcomes_of: OutcomesOf, of: Ints, seed: int, n_bootstraps: int) -> Measured:
    """Return ranking figures of what is served, and calibration figures by calibrators that have not seen the row."""
    rows = looks.answered[of]
    ranked = measure(outcomes_of(rows, _inside(looks.p_checked[of])), seed=seed, n_bootstraps=n_bootstraps)
    if np.array_equal(looks.p_checked[of], looks.p_calibration[of]):
        return ranked
    fewer = min(n_bootstraps, FEWER_BOOTSTRAPS)
    judged = measure(outcomes_of(rows, _inside(looks.p_calibration[of])), seed=seed, n_bootstraps=fewer)
    figures = {name: getattr(judged.metrics, name) for name in CALIBRATION_FIGURES}
    intervals = {name: judged.intervals[name] for name in CALIBRATION_FIGURES if name in judged.intervals}
    return Measured(msgspec.structs.replace(ranked.metrics, **figures), ranked.intervals | intervals, None)


def _kinds(looks: BothLooks, outcomes_of: OutcomesOf, known: Ints, seed: int, n_bootstraps: int) -> list[SignalKind]:
    found = []
    of_kind = {name: known[looks.kind[known] == number] for number, name in enumerate(KINDS)}
    of_kind[ANY] = known[looks.kind[known] > 0]
    for name, of in of_kind.items():
        match = looks.rows.match[looks.answered[of]]
        if of.size < MIN_KIND_ROWS or np.unique(match).size < 2:
            continue
        measured = _measured(looks, outcomes_of, of, seed, n_bootstraps)
        parts = None if looks.parts is None else looks.parts[of]
        found.append(
            SignalKind(
                name,
                int(of.size),
                float(match.mean()),
                measured.metrics,
                measured.intervals,
                reliability(_inside(looks.p_calibration[of]), match.astype(np.float64)),
                {} if parts is None else rests_on(parts),
                {} if parts is None else _aurocs(parts, match),
            )
        )
    return sorted(found, key=lambda kind: -kind.n)


def rests_on(parts: Floats) -> dict[str, float]:
    """Return each part's share of the spread of the sum: its covariance with the sum over the sum's variance.

    Args:
        parts: (m, 3) log-odds in the order of `PARTS`.
    """
    spread = np.cov(np.column_stack((parts, parts.sum(axis=1))), rowvar=False)
    if spread[-1, -1] <= 0.0:
        return {}
    return dict(zip(PARTS, (spread[:-1, -1] / spread[-1, -1]).tolist(), strict=True))


def _aurocs(parts: Floats, match: Ints) -> dict[str, float | None]:
    return {
        name: metrics.auroc(metrics.Ranking.of(column), match.astype(np.float64))
        for name, column in zip(PARTS, parts.T, strict=True)
    }


def _inside(p_match: Floats) -> Floats:
    return np.clip(p_match, LEAST_P, 1.0 - LEAST_P)


def _landings(rows: LookedAt, rules: Mapping[str, Mapping[str, Rule]], seed: int, n_bootstraps: int) -> list[Landing]:
    flat = [(policy, way, rule) for policy, ways in rules.items() for way, rule in ways.items()]
    outcomes = judge_rules(rows, [rule for _, _, rule in flat], seed, n_bootstraps)
    by_place = {(policy, way): outcome for (policy, way, _), outcome in zip(flat, outcomes, strict=True)}
    ways = ("one_look", "two_looks", "always_try")
    return [Landing(policy, *(by_place.get((policy, way)) for way in ways)) for policy in rules]


def _waiting(looks: BothLooks, policy: str, rules: Mapping[str, Rule]) -> WaitingTimes | None:
    """Return how long requests take; None where fewer than `MIN_TIMED_ROWS` rows have both latencies."""
    timed = np.flatnonzero(~np.isnan(looks.weak_ms) & ~np.isnan(looks.strong_ms))
    if timed.size < MIN_TIMED_ROWS or "two_looks" not in rules:
        return None
    rows, weak, strong = looks.rows.take(timed), looks.weak_ms[timed], looks.strong_ms[timed]
    ms = {"all_strong": strong} | {way: _latency(rule, rows, weak, strong) for way, rule in rules.items()}
    twice = weak[rules["two_looks"].actions(rows)[2]]
    return WaitingTimes(
        policy,
        int(timed.size),
        list(PERCENTILES),
        {way: _percentiles(values) for way, values in ms.items()},
        _percentiles(ms["two_looks"] - strong),
        int(twice.size),
        _percentiles(twice) if twice.size else [],
    )


def _latency(rule: Rule, rows: LookedAt, weak: Floats, strong: Floats) -> Floats:
    goes_weak, accepted, escalated = rule.actions(rows)
    return np.where(goes_weak | accepted, weak, np.where(escalated, weak + strong, strong))


def _percentiles(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 1) for value in np.percentile(values, PERCENTILES)]
