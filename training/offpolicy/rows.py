"""Logged rows: a decision log as arrays, with what was asked of whom and how probable that was.

Comes in: the table of `training.offpolicy.log`. Goes out: `LoggedRows`, the input of every estimate. Requests outside a
rollout are left out: they are a random share of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.serving.decision.prices import load_prices
from turnout.serving.decision.routes import Reason
from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.offpolicy.answers import (
    WEAK,
    ScoredAnswer,
    answers_of,
    cost_usd,
    decided_of,
    prices_of,
    self_check_usd,
    tokens_of,
)
from turnout.training.offpolicy.rungs import LADDER_SEPARATOR, LoggedRungs, logged_rungs
from turnout.training.offpolicy.tries import LoggedTries, logged_tries

RULED = frozenset({Reason.RULE, Reason.TOO_LONG, Reason.SESSION, Reason.CAPABILITY})
"""Reasons that hold under every policy and bundle."""
_ANSWERED = ("responses", "created", "route", "model", "other_model", "rung", "rungs", "self_check")


@dataclass(frozen=True, slots=True)
class LoggedRows:
    """Decisions with their outcomes; arrays are (n,) or, with one column a tier (weak, strong), (n, 2).

    Of a ladder there is a column a rung, the cheapest first: k of them, and the last is the top's.

    Attributes:
        session: rows with the same number share their draws.
        bundle: `name/version` that decided.
        ladder: names of the rungs, one of `LADDER_SEPARATOR` between them; empty for a pair.
        taken: column of where they went first: a try is weak, whatever its verdict.
        chosen: column of where the policy of the day would have sent them without exploration.
        is_ruled: whether a rule, guard or session decided, whatever the policy.
        is_unfamiliar: whether the bundle found the prompt out of distribution: strong under every policy of it.
        p_match: NaN where the model did not run.
        p_rungs: (n, k - 2) of the rungs between; NaN likewise.
        tokens: of the prompt, estimated.
        asked: (n, k) whether the answer was obtained by design: routed there, or both wanted. That of an escalation is
            not: whether it is there depends on the weak answer, and not on a draw alone.
        propensity: (n, k) probability of `asked`, in [0, 1].
        propensity_of_try: probability that it was routed weak, and so tried where the policy would have it tried.
        pair_propensity: probability in [0, 1] that both were wanted: of a ladder the top's and one below it.
        score: (n, k) of the answer in [0, 1]; NaN where nobody judged it, or where it was not asked for.
        usd: (n, k) what the answer cost by the tokens that the vendor counted; NaN where unknown.
        expected_usd: (n, k) what it was expected to cost; NaN without prices.
        table_row: of the log's table.
        tries: what became of those that were tried.
    """

    session: Ints
    bundle: NDArray[np.str_]
    ladder: NDArray[Any]
    taken: Ints
    chosen: Ints
    is_ruled: Bools
    is_unfamiliar: Bools
    p_match: Floats
    p_rungs: Floats
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
    def top(self) -> int:
        """Column of the strong model."""
        return int(self.propensity.shape[1]) - 1

    @property
    def is_weak(self) -> Bools:
        """(n,) whether they went to the weak model first."""
        return np.asarray(self.taken == WEAK)

    @property
    def chose_weak(self) -> Bools:
        """(n,) whether the policy of the day would have sent them there."""
        return np.asarray(self.chosen == WEAK)

    @property
    def served(self) -> Ints:
        """(n,) column of the answer that was the one to show."""
        return np.where(self.tries.ended_strong, self.tries.escalated_to, self.taken)

    @property
    def served_weak(self) -> Bools:
        """(n,) whether the weak model's answer was the one to show."""
        return np.asarray(self.is_weak & ~self.tries.ended_strong)

    @property
    def has_overlap(self) -> Bools:
        """(n,) whether either answer, or that of a second rung, could have been asked for."""
        return np.asarray((self.propensity > 0).sum(axis=1) > 1)

    def of_ladder(self, names: Sequence[str]) -> LoggedRows:
        """Return the rows of one ladder, or of pairs for no names, with as many columns as it has rungs."""
        found = self.only(np.asarray(self.ladder == LADDER_SEPARATOR.join(names)))
        k, top = len(names) or 2, self.top
        if k == top + 1:
            return found
        columns = [*range(k - 1), top]
        moved = {name: np.where((at := getattr(found, name)) == top, k - 1, at) for name in ("taken", "chosen")}
        kept = {
            name: getattr(found, name)[:, columns] for name in ("asked", "propensity", "score", "usd", "expected_usd")
        }
        escalated_to = np.where(found.tries.escalated_to == top, k - 1, found.tries.escalated_to)
        tries = replace(found.tries, escalated_to=escalated_to)
        return replace(found, **moved, **kept, p_rungs=found.p_rungs[:, : k - 2], tries=tries)

    def only(self, which: Bools) -> LoggedRows:
        """Return some of the rows."""
        return LoggedRows(**{field.name: getattr(self, field.name)[which] for field in fields(self)})


def logged_rows(table: pa.Table) -> LoggedRows:
    """Return the rows of a log's table, those outside a rollout left out.

    Of a log of ladders there is a column a rung; a pair among them has the first and the last.
    """
    rows = np.flatnonzero(np.array([reason != Reason.ROLLOUT for reason in _strings(table, "reason")], dtype=bool))
    table = table.take(pa.array(rows))
    reason = _strings(table, "reason")
    on = logged_rungs(table)
    score, usd, self_check = _answered(table, on)
    return LoggedRows(
        session=_draw_keys(table),
        bundle=np.array(_strings(table, "bundle"), dtype=np.str_),
        ladder=on.ladder,
        taken=on.taken,
        chosen=on.chosen,
        is_ruled=np.array([one in RULED for one in reason], dtype=bool),
        is_unfamiliar=np.array([one == Reason.OUT_OF_DISTRIBUTION for one in reason], dtype=bool),
        p_match=_floats(table, "p_match"),
        p_rungs=on.p_rungs,
        tokens=_floats(table, "estimated_tokens"),
        asked=on.asked,
        propensity=on.propensity,
        propensity_of_try=on.propensity_of_first,
        pair_propensity=on.pair_propensity,
        score=np.where(on.asked, score, np.nan),
        usd=np.where(on.asked, usd, np.nan),
        expected_usd=on.expected_usd,
        table_row=rows,
        tries=logged_tries(table, on, score, usd, self_check),
    )


def _answered(table: pa.Table, on: LoggedRungs) -> tuple[Floats, Floats, Floats]:
    """Return (n, k) scores and costs of the answers that were reported, and (n,) costs of self-checks."""
    score, usd = np.full((2, table.num_rows, on.k), np.nan)
    self_check = np.zeros(table.num_rows)
    prices = load_prices()
    for row, one in enumerate(table.select(_ANSWERED).to_pylist()):
        decided = decided_of(one)
        answers, priced = answers_of(one["responses"], decided), prices_of(decided, prices)
        for place, answer in enumerate(answers):
            column = on.column(place, decided.top)
            score[row, column] = _score(answer)
            cost = cost_usd(answer, priced[place])
            usd[row, column] = np.nan if cost is None else cost
        price, asked = priced[WEAK], one["self_check"] is not None
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
