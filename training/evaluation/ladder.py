"""The ladder in an evaluation: what `evaluation.json` holds of more than two models under `ladder`.

Made by `training.learn.ladder`, read by `training.report`. Shares are of all rows that have an outcome of every rung,
costs are such that all to the top is 1, discarded answers and self-checks counted.
"""

from __future__ import annotations

import msgspec


class RungFigures(msgspec.Struct, frozen=True):
    """One rung: what its p is worth on the rows that have its label, and what it would do if it answered everything.

    Attributes:
        name: as the operator gave it.
        rows: with its label.
        match_rate: share of them on which it is not worse than the top; None of no row.
        figures, intervals: of its p, each row told by fits without its group; empty of the top, and where its labels
            do not differ.
        worse: share of the rows that have all labels on which it is worse than the top; None of no row.
        quality: its mean score there over the top's; None where that is 0.
        cost: its mean cost there; None where prices are unknown.
    """

    name: str
    rows: int
    match_rate: float | None
    figures: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]
    worse: float | None
    quality: float | None
    cost: float | None


class PolicyOverRungs(msgspec.Struct, frozen=True):
    """What one policy does over the ladder, for callers of one look or of two.

    Attributes:
        policy: its name.
        looks: 1 or 2.
        is_met: whether it could be shown to keep its promise.
        shares: that each rung answers, the cheapest first; they add up to 1.
        waits_twice: share that waits for two answers.
        worse: share that gets a worse answer than the top's.
        quality: mean score over the top's; None where that is 0.
        cost: mean cost; None where prices are unknown.
        worse_interval, cost_interval: 95 %, over draws of groups; None of a single group.
    """

    policy: str
    looks: int
    is_met: bool
    shares: list[float]
    waits_twice: float
    worse: float
    quality: float | None
    cost: float | None
    worse_interval: tuple[float, float] | None = None
    cost_interval: tuple[float, float] | None = None


class LadderFigures(msgspec.Struct, frozen=True):
    """A ladder on the `n` rows, in `n_groups` groups, that have an outcome of every rung."""

    n: int
    n_groups: int
    rungs: list[RungFigures]
    policies: list[PolicyOverRungs]
