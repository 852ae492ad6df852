"""Tries: what the log shows of requests whose weak answer was to be checked.

Comes in: the log's table with its verdicts. Goes out: `LoggedTries`, beside the other arrays of `LoggedRows`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.serving.decision.routes import Action, Reason, Route, Verdict
from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.offpolicy.answers import STRONG, WEAK
from turnout.training.offpolicy.rungs import LoggedRungs, logged_rungs


@dataclass(frozen=True, slots=True)
class LoggedTries:
    """What is known of tries, (n,).

    Attributes:
        can_check: whether the caller could have had an answer checked.
        was_tried: whether the weak model answered first, to be checked.
        chose_try: whether the policy of the day would have tried, without exploration.
        is_checked: whether there is a verdict.
        accepted: whether it was to accept; False without one.
        p_checked: the second look's p_match; NaN where it gave none: then nothing is accepted.
        accept_threshold: of the policy of the day; NaN where no verdict of it tells.
        escalated_to: column of the rung that what is not accepted goes to: as the verdict says, else as the thresholds
            of the day have it, and the top of a try that nobody checked.
        judged_by: `name/version` of the bundle that checked; empty without.
        score: of the answer after an escalation, in [0, 1]; NaN where unknown.
        usd: what that answer cost; NaN where unknown.
        self_check_usd: what asking the weak model if it was right cost.
    """

    can_check: Bools
    was_tried: Bools
    chose_try: Bools
    is_checked: Bools
    accepted: Bools
    p_checked: Floats
    accept_threshold: Floats
    escalated_to: Ints
    judged_by: NDArray[np.str_]
    score: Floats
    usd: Floats
    self_check_usd: Floats

    def __getitem__(self, which: Bools) -> LoggedTries:
        return LoggedTries(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    @property
    def ended_strong(self) -> Bools:
        """(n,) whether the weak answer was not accepted, or never checked."""
        return np.asarray((self.was_tried | self.is_checked) & ~self.accepted)

    @classmethod
    def none(cls, n: int, top: int = STRONG) -> LoggedTries:
        """Return n rows that nobody tried; `top` is the column of the strong model."""
        no, nan = np.zeros(n, dtype=bool), np.full(n, np.nan)
        return cls(no, no, no, no, no, nan, nan, np.full(n, top), np.full(n, ""), nan, nan, np.zeros(n))


def served_weak(table: pa.Table) -> Bools:
    """Return (n,) whether the weak model's answer was the one to show; a try without a verdict counts as escalated."""
    columns = [table[name].to_pylist() for name in ("route", "action", "verdict")]
    return np.array(
        [
            route == Route.WEAK and (verdict == Verdict.ACCEPT or (verdict is None and action != Action.TRY))
            for route, action, verdict in zip(*columns, strict=True)
        ],
        dtype=bool,
    )


def shares_of_rungs(table: pa.Table) -> dict[str, float]:
    """Return the share of requests that each rung answered, by name, most expensive last; empty without a ladder."""
    if not any(ladders := table["rungs"].to_pylist()):
        return {}
    on, row = logged_rungs(table), table.select(("action", "verdict", "route", "model", "other_model")).to_pylist()
    was_tried = np.array([one["action"] == Action.TRY for one in row], dtype=bool)
    accepted = np.array([one["verdict"] == Verdict.ACCEPT for one in row], dtype=bool)
    is_checked = np.array([one["verdict"] is not None for one in row], dtype=bool)
    escalated = (was_tried | is_checked) & ~accepted
    served = np.where(escalated, _escalated_to(table, on, was_tried), on.taken)
    counts: dict[str, int] = dict.fromkeys((name for names in ladders for name in names or ()), 0)
    for one, names, column in zip(row, ladders, served.tolist(), strict=True):
        if names:
            name = names[-1] if column == on.k - 1 else names[column]
        else:
            name = one["model"] if (column == WEAK) == (one["route"] == Route.WEAK) else one["other_model"]
        counts[name] = counts.get(name, 0) + 1
    return {name: count / len(row) for name, count in counts.items()}


def logged_tries(table: pa.Table, on: LoggedRungs, score: Floats, usd: Floats, self_check_usd: Floats) -> LoggedTries:
    """Return the tries of a log's table.

    Args:
        table: with its verdicts, requests outside a rollout left out.
        on: where its requests went.
        score: (n, k) of all answers that were obtained.
        usd: (n, k) what they cost.
        self_check_usd: (n,) of asking the weak model.
    """
    was_tried = np.array([action == Action.TRY for action in table["action"].to_pylist()], dtype=bool)
    verdict = table["verdict"].to_pylist()
    escalated = np.array([one == Verdict.ESCALATE for one in verdict], dtype=bool)
    escalated_to = _escalated_to(table, on, was_tried)
    at = np.arange(table.num_rows), escalated_to
    return LoggedTries(
        can_check=was_tried | np.array([bool(one) for one in table["can_check"].to_pylist()], dtype=bool),
        was_tried=was_tried,
        chose_try=was_tried | (_moved_from_try(table) & (on.chosen == WEAK)),
        is_checked=np.array([one is not None for one in verdict], dtype=bool),
        accepted=np.array([one == Verdict.ACCEPT for one in verdict], dtype=bool),
        p_checked=_floats(table, "p_match_checked"),
        accept_threshold=_accept_thresholds(table),
        escalated_to=escalated_to,
        judged_by=np.array([one or "" for one in table["check_bundle"].to_pylist()], dtype=np.str_),
        score=np.where(escalated, score[at], np.nan),
        usd=np.where(escalated, usd[at], np.nan),
        self_check_usd=self_check_usd,
    )


def _escalated_to(table: pa.Table, on: LoggedRungs, was_tried: Bools) -> Ints:
    """(n,) column of the rung that each row's weak answer is escalated to."""
    found = on.escalates_to.copy()
    columns = [table[name].to_pylist() for name in ("rungs", "verdict", "check_model", "check_rung")]
    for row, (names, verdict, model, rung) in enumerate(zip(*columns, strict=True)):
        if not names:
            continue
        if verdict == Verdict.ESCALATE and (named := rung or model) in names:
            found[row] = on.column(names.index(named), len(names) - 1)
        elif verdict is None and was_tried[row]:
            found[row] = on.k - 1
    return found


def _moved_from_try(table: pa.Table) -> Bools:
    """(n,) whether a draw sent a request strong that was to be tried: a p_match that reached t_weak was weak before."""
    columns = [table[name].to_pylist() for name in ("reason", "route", "p_match", "threshold", "can_check")]
    return np.array(
        [
            bool(can_check) and reason == Reason.EXPLORATION and route == Route.STRONG and p_match < threshold
            for reason, route, p_match, threshold, can_check in zip(*columns, strict=True)
        ],
        dtype=bool,
    )


def _accept_thresholds(table: pa.Table) -> Floats:
    """Return (n,) the accept threshold that held for each row's bundle and policy, as the verdicts of it say."""
    columns = [table[name].to_pylist() for name in ("bundle", "policy", "accept_threshold")]
    rows = list(zip(*columns, strict=True))
    known: dict[tuple[str, str], float] = {}
    for bundle, policy, threshold in rows:
        if threshold is not None:
            known[bundle, policy] = min(threshold, known.get((bundle, policy), np.inf))
    return np.array([known.get((bundle, policy), np.nan) for bundle, policy, _ in rows], dtype=np.float64)


def _floats(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float64)
