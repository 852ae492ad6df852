"""Ladder: rows of more than two models, and the thresholds of a policy over them.

Comes in: calibrated p of each rung but the top, outcomes, costs and groups of rows that no fit behind their answer has
seen. Goes out: what any thresholds do to them. Rungs count from 0, the cheapest; the top is the last.

Rung 0 answers from `t_weak` on, and is tried between `t_strong` and `t_weak` where its answer is checked. What goes
past it, escalated or not, is for the first rung between whose own p reaches `t_rungs`, else for the top. What is unlike
the training data is for the top, or tried first where answers are checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from turnout.serving.bundles.policy import NEVER
from turnout.serving.router.exit_band import ExitBand
from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.fit.router import HeadLogOdds, cascade


@dataclass(frozen=True)
class LadderRows:
    """n rows with an outcome of each of k rungs.

    Attributes:
        first: (n,) calibrated p of rung 0 that ranks rows by what is routed at all thresholds, in [0, 1].
        p_rungs: (n, k - 2) calibrated p of the rungs between, in [0, 1].
        match: (n, k - 1) 0 or 1, whether a rung is not worse than the top.
        score: (n, k) in [0, 1].
        usd: (n, k) what each rung's answer costs, above 0.
        group: (n,) rows of one group are not independent.
        is_priced: whether `usd` is money; else only its order counts.
        heads, exit_band: rung 0's calibrated log-odds, by which a threshold is applied as served; None takes `first`.
        second: (n,) calibrated p of rung 0's answer by the second look, in [0, 1]; None for one look.
        check_usd: (n,) what checking adds to a try; None for nothing.
        is_unlike: (n,) rows unlike the training data; None for none.
        is_unread: (n,) rows whose weak answer the log lacks: promises count it as accepted; None for none.
    """

    first: Floats
    p_rungs: Floats
    match: Ints
    score: Floats
    usd: Floats
    group: Ints
    is_priced: bool = True
    heads: HeadLogOdds | None = None
    exit_band: ExitBand | None = None
    second: Floats | None = None
    check_usd: Floats | None = None
    is_unlike: Bools | None = None
    is_unread: Bools | None = None

    @property
    def top(self) -> int:
        """Number of the top rung."""
        return int(self.score.shape[1]) - 1

    def take(self, rows: Ints) -> LadderRows:
        """Return those of some rows."""

        def some(values: Any) -> Any:
            return None if values is None else values[rows]

        return LadderRows(
            self.first[rows],
            self.p_rungs[rows],
            self.match[rows],
            self.score[rows],
            self.usd[rows],
            self.group[rows],
            self.is_priced,
            self.heads and HeadLogOdds(self.heads.fast[rows], self.heads.full[rows]),
            self.exit_band,
            some(self.second),
            some(self.check_usd),
            some(self.is_unlike),
            some(self.is_unread),
        )

    @property
    def unlike(self) -> Bools:
        """(n,) what is unlike the training data."""
        return np.zeros(self.first.size, dtype=bool) if self.is_unlike is None else self.is_unlike

    def reaches(self, threshold: float) -> Bools:
        """Return (n,) which rows' p of rung 0 is at or above a threshold, as the cascade says it."""
        if threshold >= 1.0:
            return np.zeros(self.first.size, dtype=bool)
        if self.heads is None or self.exit_band is None:
            return np.asarray(self.first >= threshold)
        return np.asarray(cascade(self.heads, threshold, self.exit_band).p_match >= threshold)


@dataclass(frozen=True)
class Climbed:
    """What became of n rows: which rung answers, and which waited for two answers."""

    rung: Ints
    is_tried: Bools
    is_escalated: Bools

    def of(self, values: Floats | Ints) -> Floats:
        """Return (n,) the answering rung's column of (n, k) values."""
        return np.asarray(values[np.arange(self.rung.size), self.rung])


@dataclass(frozen=True)
class LadderThresholds:
    """Thresholds: t_strong <= t_weak on the first look, t_accept on the second, one for each rung between."""

    t_strong: float
    t_weak: float
    t_accept: float
    t_rungs: tuple[float, ...]

    @classmethod
    def of_one_look(cls, threshold: float, t_rungs: tuple[float, ...]) -> LadderThresholds:
        """Return the thresholds of a policy over the first look alone."""
        return cls(threshold, threshold, NEVER, t_rungs)

    @property
    def is_one_look(self) -> bool:
        """Whether no answer is checked."""
        return self.t_accept >= NEVER

    def climbed(self, rows: LadderRows) -> Climbed:
        """Return what becomes of the rows."""
        beyond = past_the_first(rows, self.t_rungs)
        unlike = rows.unlike
        if self.is_one_look or rows.second is None:
            weak = rows.reaches(self.t_weak) & ~unlike
            nothing = np.zeros(weak.size, dtype=bool)
            return Climbed(np.where(weak, 0, beyond), nothing, nothing)
        weak = ~unlike & (rows.first >= self.t_weak)
        tried = ~weak & ((rows.first >= self.t_strong) | unlike)
        accepted = tried & (rows.second >= self.t_accept)
        return Climbed(np.where(weak | accepted, 0, beyond), tried, tried & ~accepted)

    def worse(self, rows: LadderRows) -> Bools:
        """Return (n,) which rows get, or may get, an answer worse than the top's.

        A row whose verdict nobody knows counts by the worse of what it may get.
        """
        found = self.climbed(rows)
        misses = np.column_stack((rows.match == 0, np.zeros(rows.first.size, dtype=bool)))
        worse = found.of(misses).astype(bool)
        if rows.is_unread is None:
            return np.asarray(worse)
        return np.asarray(worse | (found.is_escalated & rows.is_unread & misses[:, 0]))

    def lost(self, rows: LadderRows) -> Floats:
        """Return (n,) the score that each row loses against the top, below 0 where it gains; as `worse` counts."""
        found, top = self.climbed(rows), rows.score[:, -1]
        lost = top - found.of(rows.score)
        if rows.is_unread is None:
            return np.asarray(lost)
        return np.where(found.is_escalated & rows.is_unread, np.maximum(lost, top - rows.score[:, 0]), lost)

    def usd(self, rows: LadderRows) -> Floats:
        """Return (n,) what each row costs, discarded answers and checks included."""
        found = self.climbed(rows)
        check = 0.0 if rows.check_usd is None else rows.check_usd
        discarded = np.where(found.is_escalated, rows.usd[:, 0], 0.0)
        return np.asarray(found.of(rows.usd) + discarded + np.where(found.is_tried, check, 0.0))


def past_the_first(rows: LadderRows, t_rungs: tuple[float, ...]) -> Ints:
    """Return (n,) which rung answers what rung 0 does not."""
    return first_reached(rows.p_rungs, rows.unlike, t_rungs)


def first_reached(p_rungs: Floats, is_unlike: Bools, t_rungs: tuple[float, ...]) -> Ints:
    """Return (n,) the number of the first rung between whose p reaches its threshold, else the top's.

    Args:
        p_rungs: (n, k - 2) in [0, 1].
        is_unlike: (n,) rows unlike the training data, which are for the top.
        t_rungs: k - 2 thresholds.
    """
    reached = p_rungs >= np.asarray(t_rungs)
    reached[is_unlike] = False
    n_between = reached.shape[1]
    first = np.argmax(reached, axis=1) + 1 if n_between else np.zeros(is_unlike.size, dtype=np.int64)
    return np.asarray(np.where(reached.any(axis=1), first, n_between + 1), dtype=np.int64)


def always_top(n_between: int) -> LadderThresholds:
    """Return the thresholds by which everything goes to the top."""
    return LadderThresholds(NEVER, NEVER, NEVER, (NEVER,) * n_between)
