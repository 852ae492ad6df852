"""The gate's second half: whether a challenger's second look may take the place of the champion's.

Comes in: both, and the rows that neither has seen. Goes out: `Check`s. A challenger that would lose the second look is
refused: callers that try and check would find themselves routed by the prompt alone. Rows whose log holds the weak
model's answer are asked of both, as served, and compared with the limits of the first look.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.policy import Policy
from turnout.serving.bundles.verdict import Check
from turnout.serving.decision.decision import action_of
from turnout.serving.decision.judging import accept_threshold, checked_by, verdict_of
from turnout.serving.decision.routes import Action, Verdict
from turnout.serving.router.checker import CheckerModel, CheckHead
from turnout.serving.router.model import RouterModel
from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.logs.records import Record
from turnout.training.logs.weak_answers import answer_of
from turnout.training.retrain.gate import GateLimits, GateRows, ServedAnswers, compare

MIN_ROWS = 200
"""Answers to compare on; with fewer, one source or task decides."""

KEPT, ROWS = "second look kept", "second look: rows to compare on"
PREFIX = "second look: "


@dataclass(frozen=True)
class Looker:
    """One side: both looks, and the policy at whose thresholds it is asked; `checker` is None where it has none.

    `beyond` is, of a ladder, (n,) the score of what answers a row that its first rung does not; None is the strong
    model's.
    """

    model: RouterModel
    checker: CheckerModel | None
    policy: Policy
    beyond: Floats | None = None

    @property
    def tries(self) -> bool:
        """Whether callers that check are ever told to try."""
        rule = self.policy.checked
        return self.checker is not None and rule is not None and rule.is_met


def second_look_checks(
    champion: Looker, challenger: Looker, records: list[Record], rows: GateRows, limits: GateLimits, *, seed: int
) -> list[Check]:
    """Return what is to be met beside the first look; nothing where neither has a second one.

    Args:
        champion: as it is served.
        challenger: likewise.
        records: n rows that neither has seen.
        rows: the same, as the gate takes them.
        limits: what is tolerated.
        seed: of the bootstraps.
    """
    if champion.checker is None and challenger.checker is None:
        return []
    kept = Check(
        name=KEPT,
        is_met=challenger.tries or not champion.tries,
        figure=float(challenger.tries),
        limit=float(champion.tries),
        champion=float(champion.tries),
        challenger=float(challenger.tries),
    )
    if challenger.checker is None:
        return [kept]
    places = np.array([row for row, one in enumerate(records) if answer_of(one) is not None], dtype=np.int64)
    lookers = champion, challenger
    sides = [_asked(side, [records[place] for place in places.tolist()]) for side in lookers]
    both = sides[0][1] & sides[1][1]
    n = int(both.sum())
    enough = Check(name=ROWS, is_met=n >= MIN_ROWS, figure=float(n), limit=float(MIN_ROWS))
    if not enough.is_met:
        return [kept, enough]
    at = places[both]
    before, after = (
        ServedAnswers(said.p_match[both], said.goes_weak[both], _scores(side, rows, said.goes_weak[both], at))
        for side, (said, _) in zip(lookers, sides, strict=True)
    )
    checks = compare(_taken(rows, at), before, after, limits, seed=seed)
    return [kept, enough, *(msgspec.structs.replace(one, name=PREFIX + one.name) for one in checks)]


def _scores(side: Looker, rows: GateRows, goes_weak: Bools, places: Ints) -> Floats | None:
    if side.beyond is None:
        return None
    return np.where(goes_weak, rows.weak_score[places], side.beyond[places])


def _asked(side: Looker, records: list[Record]) -> tuple[ServedAnswers, NDArray[np.bool_]]:
    """Return what a side says of rows with an answer, whose it shows, and (n,) where it has a probability.

    Without a second look that is the first one's, and its rule over two tiers.
    """
    p_match, goes_weak = np.zeros(len(records)), np.zeros(len(records), dtype=bool)
    vouched = np.ones(len(records), dtype=bool)
    for row, record in enumerate(records):
        said = side.model.predict(record.prompt, side.policy.threshold)
        if side.checker is None:
            p_match[row], goes_weak[row] = said.p_match, said.goes_weak(side.policy.threshold)
            continue
        answer, signals = answer_of(record) or (None, None)
        assert answer is not None
        assert signals is not None
        checked = checked_by(side.model, side.checker, record.prompt, answer, signals, falls_back=True)
        p_match[row], vouched[row] = checked.p_match, checked.head is not CheckHead.NONE
        action = action_of(side.policy, said, side.policy.checked if side.tries else None)
        accepted = verdict_of(checked, accept_threshold(side.policy)) is Verdict.ACCEPT
        goes_weak[row] = action is Action.WEAK or (action is Action.TRY and accepted)
    return ServedAnswers(p_match, goes_weak), vouched


def _taken(rows: GateRows, places: Ints) -> GateRows:
    return GateRows(
        match=rows.match[places],
        strong_score=rows.strong_score[places],
        weak_score=rows.weak_score[places],
        group=rows.group[places],
        weight=rows.weight[places],
        slices={name: [column[place] for place in places.tolist()] for name, column in rows.slices.items()},
    )
