"""Logged rows: a decision log as arrays, with what was asked of whom and how probable that was.

Comes in: the table of `training.offpolicy.log`. Goes out: `LoggedRows`, the input of every estimate. Requests outside a
rollout are left out: they are a random share of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.serving.decision.prices import load_prices
from turnout.serving.decision.routes import Reason, Route
from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.offpolicy.answers import (
    STRONG,
    WEAK,
    Decided,
    ScoredAnswer,
    answers_of,
    cost_usd,
    price_at,
    self_check_usd,
    tokens_of,
)
from turnout.training.offpolicy.tries import LoggedTries, logged_tries

RULED = frozenset({Reason.RULE, Reason.TOO_LONG, Reason.SESSION})
"""Reasons that hold under every policy and bundle."""
_ANSWERED = ("responses", "created", "model", "other_model", "self_check")


@dataclass(frozen=True, slots=True)
class LoggedRows:
    """Decisions with their outcomes; arrays are (n,) or, with one column a tier (weak, strong), (n, 2).

    Attributes:
        session: rows with the same number share their draws.
        bundle: `name/version` that decided.
        is_weak: where they went first: a try is weak, whatever its verdict.
        chose_weak: where the policy of the day would have sent them without exploration.
        is_ruled: whether a rule, guard or session decided, whatever the policy.
        is_unfamiliar: whether the bundle found the prompt out of distribution: strong under every policy of it.
        p_match: NaN where the model did not run.
        tokens: of the prompt, estimated.
        asked: (n, 2) whether the answer was obtained by design: routed there, or both wanted. That of an escalation is
            not: whether it is there depends on the weak answer, and not on a draw alone.
        propensity: (n, 2) probability of `asked`, in [0, 1].
        propensity_of_try: probability that it was routed weak, and so tried where the policy would have it tried.
        pair_propensity: probability that both were wanted, in [0, 1].
        score: (n, 2) of the answer in [0, 1]; NaN where nobody judged it, or where it was not asked for.
        usd: (n, 2) what the answer cost by the tokens that the vendor counted; NaN where unknown.
        expected_usd: (n, 2) what it was expected to cost; NaN without prices.
        table_row: of the log's table.
        tries: what became of those that were tried.
    """

    session: Ints
    bundle: NDArray[np.str_]
    is_weak: Bools
    chose_weak: Bools
    is_ruled: Bools
    is_unfamiliar: Bools
    p_match: Floats
    tokens: Floats
    asked: Bools
    propensity: Floats
    propensity_of_try: Floats
    pair_propensity: Floats
    score: Floats
    usd: Floats
    expected_usd: Floats
    table_row: Ints
    tries: LoggedTries

    def __len__(self) -> int:
        return len(self.session)

    @property
    def served_weak(self) -> Bools:
        """(n,) whether the weak model's answer was the one to show."""
        return np.asarray(self.is_weak & ~self.tries.ended_strong)

    @property
    def has_overlap(self) -> Bools:
        """(n,) whether either answer could have been asked for."""
        return np.asarray((self.propensity > 0).all(axis=1))

    def only(self, which: Bools) -> LoggedRows:
        """Return some of the rows."""
        return LoggedRows(**{field.name: getattr(self, field.name)[which] for field in fields(self)})


def logged_rows(table: pa.Table) -> LoggedRows:
    """Return the rows of a log's table, those outside a rollout left out."""
    rows = np.flatnonzero(np.array([reason != Reason.ROLLOUT for reason in _strings(table, "reason")], dtype=bool))
    table = table.take(pa.array(rows))
    reason = _strings(table, "reason")
    is_weak = np.array([route == Route.WEAK for route in _strings(table, "route")], dtype=bool)
    asked, propensity = _asked(table, is_weak)
    score, usd, self_check = _answered(table, is_weak)
    moved = np.array([one == Reason.EXPLORATION for one in reason], dtype=bool)
    return LoggedRows(
        session=_draw_keys(table),
        bundle=np.array(_strings(table, "bundle"), dtype=np.str_),
        is_weak=is_weak,
        chose_weak=is_weak ^ moved,
        is_ruled=np.array([one in RULED for one in reason], dtype=bool),
        is_unfamiliar=np.array([one == Reason.OUT_OF_DISTRIBUTION for one in reason], dtype=bool),
        p_match=_floats(table, "p_match"),
        tokens=_floats(table, "estimated_tokens"),
        asked=asked,
        propensity=propensity,
        propensity_of_try=weak_propensity(_floats(table, "route_propensity"), is_weak),
        pair_propensity=_pair_propensity(table),
        score=np.where(asked, score, np.nan),
        usd=np.where(asked, usd, np.nan),
        expected_usd=np.column_stack([_floats(table, "weak_cost_usd"), _floats(table, "strong_cost_usd")]),
        table_row=rows,
        tries=logged_tries(table, score, usd, self_check),
    )


def weak_propensity(route_propensity: Floats, is_weak: Bools) -> Floats:
    """Return (n,) how probable it was that a request is routed weak."""
    return np.where(is_weak, route_propensity, 1.0 - route_propensity)


def asked_propensity(route_propensity: Floats, pair_propensity: Floats, is_weak: Bools) -> Floats:
    """Return (n, 2) how probable it was that an answer is asked for: routed there, or both wanted.

    The two draws are independent: 1 - (1 - p) (1 - pair), p being the probability of the tier.
    """
    at_weak = weak_propensity(route_propensity, is_weak)
    at_tier = np.column_stack([at_weak, 1.0 - at_weak])
    return np.asarray(1.0 - (1.0 - at_tier) * (1.0 - pair_propensity)[:, None])


def _asked(table: pa.Table, is_weak: Bools) -> tuple[Bools, Floats]:
    wants_both = np.array([bool(one) for one in table["wants_both"].to_pylist()], dtype=bool)
    asked = np.column_stack([is_weak | wants_both, ~is_weak | wants_both])
    propensity = asked_propensity(_floats(table, "route_propensity"), _pair_propensity(table), is_weak)
    return asked, propensity


def _pair_propensity(table: pa.Table) -> Floats:
    return np.asarray(np.nan_to_num(_floats(table, "pair_propensity")))


def _answered(table: pa.Table, is_weak: Bools) -> tuple[Floats, Floats, Floats]:
    """Return (n, 2) scores and costs of the answers that were reported, and (n,) costs of self-checks."""
    score, usd = np.full((2, table.num_rows, 2), np.nan)
    self_check = np.zeros(table.num_rows)
    prices = load_prices()
    for row, one in enumerate(table.select(_ANSWERED).to_pylist()):
        decided = Decided(one["created"], WEAK if is_weak[row] else STRONG, one["model"], one["other_model"] or "")
        answers = answers_of(one["responses"], decided)
        for tier, answer in enumerate(answers):
            score[row, tier] = _score(answer)
            cost = cost_usd(answer, decided.models[tier], decided.created_s, prices)
            usd[row, tier] = np.nan if cost is None else cost
        price, asked = price_at(decided.models[WEAK], decided.created_s, prices), one["self_check"] is not None
        if price is not None:
            self_check[row] = self_check_usd(answers[WEAK], tokens_of(answers[WEAK]), price, was_asked=asked)
    return score, usd, self_check


def _score(answer: ScoredAnswer | None) -> float:
    return np.nan if answer is None or answer.score is None else answer.score


def _draw_keys(table: pa.Table) -> Ints:
    """Return (n,) numbers of what the draws went by: the session, else the request, else the prompt."""
    names = ("session_id", "id", "prompt_digest")
    columns = [table[name].to_pylist() if name in table.column_names else [None] * table.num_rows for name in names]
    keys: list[Any] = [session or request or digest for session, request, digest in zip(*columns, strict=True)]
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _strings(table: pa.Table, name: str) -> Sequence[str]:
    return [value or "" for value in table[name].to_pylist()]


def _floats(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float64)
