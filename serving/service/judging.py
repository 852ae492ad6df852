"""One answer on its way to a verdict: by a rule, by the second look, or because there is none.

Comes in: the request, the answer, the bundle. Goes out: a `Judgement`, which of an escalation names the rung.
"""

from __future__ import annotations

from dataclasses import dataclass

from turnout.serving.bundles.policy import Policy
from turnout.serving.decision.judging import (
    Escalation,
    accept_threshold,
    both_costs,
    escalation_of,
    look_again,
    verdict_of,
)
from turnout.serving.decision.routes import Reason, Route, Verdict
from turnout.serving.decision.rules.offering import Offered
from turnout.serving.decision.rungs import RungLook, ruled_place, rung_looks
from turnout.serving.router.checker import Checked, CheckHead
from turnout.serving.service.asked import Asked
from turnout.serving.service.lineup import Served
from turnout.serving.wire.check import CheckCall, Judgement


@dataclass(frozen=True, slots=True)
class Judging:
    """One answer.

    Attributes:
        served: the bundle that judges.
        call: the answer as it came.
        asked: the request.
        policy: that is applied.
        offered: the rungs that may and can answer the request; None for all.
    """

    served: Served
    call: CheckCall
    asked: Asked
    policy: Policy
    offered: Offered | None

    @property
    def threshold(self) -> float:
        """What the second look's p_match has to reach."""
        return accept_threshold(self.policy, self.asked.call.threshold)

    def ruled(self) -> Judgement:
        """Return the judgement of what decides without the model."""
        before = self.asked.before
        place, moved = ruled_place(self.served.ladder, before, self.offered)
        verdict = Verdict.ESCALATE if place else Verdict.ACCEPT
        return self.judged(verdict, moved or before.reason or Reason.RULE, Escalation(place))

    def look(self) -> Judgement:
        """Return the judgement of the second look; raises what `look_again` and `escalation_of` do."""
        if self.call.answer.is_nothing:
            return self.judged(Verdict.ESCALATE, Reason.NO_ANSWER, self.escalation())
        checked = look_again(
            self.served.bundle,
            self.asked.call.prompt,
            self.call.answer,
            self.call.signals,
            falls_back=self.asked.before.falls_back,
            is_stranger=self.asked.is_stranger(self.served),
        )
        verdict = verdict_of(checked, self.threshold)
        reason = Reason.OUT_OF_DISTRIBUTION if checked.head is CheckHead.NONE else Reason.MODEL
        if self.offered is not None and 0 not in self.offered.places:
            verdict, reason = Verdict.ESCALATE, self.offered.refused[0]
        return self.judged(verdict, reason, self.escalation() if verdict is Verdict.ESCALATE else None, checked)

    def escalation(self) -> Escalation:
        """Return where the request goes once its answer is not accepted."""
        before, served = self.asked.before, self.served
        if before.route is not None:
            return Escalation(ruled_place(served.ladder, before, self.offered)[0] or len(served.ladder) - 1)
        return escalation_of(
            served.bundle,
            served.ladder,
            self.policy,
            self.asked.call.prompt,
            self.offered,
            falls_back=before.falls_back,
            is_stranger=self.asked.is_stranger(served),
        )

    def judged(
        self, verdict: Verdict, reason: Reason, escalation: Escalation | None = None, checked: Checked | None = None
    ) -> Judgement:
        """Return the judgement of a verdict; `escalation` says where the request goes, None for an accepted answer."""
        found = escalation or Escalation(0)
        place = found.place if verdict is Verdict.ESCALATE else 0
        rung = self.served.ladder[place]
        is_vouched = checked is not None and checked.head is not CheckHead.NONE
        accept_usd, escalate_usd = self._costs(found.place if verdict is Verdict.ESCALATE else -1)
        ignored = (*self.call.ignored, *(() if checked is None else checked.signals_ignored))
        return Judgement(
            verdict,
            rung.model,
            checked.p_match if checked is not None and is_vouched else None,
            self.threshold,
            self.policy.name,
            found.moved or reason,
            head="" if checked is None else checked.head.name,
            rule=self.asked.before.rule,
            accept_usd=accept_usd,
            escalate_usd=escalate_usd,
            used=() if checked is None else checked.signals_used,
            ignored=tuple(dict.fromkeys(ignored)),
            rung=rung.name,
            effort=rung.effort,
            tier=Route.WEAK if place == 0 else Route.STRONG if place == len(self.served.ladder) - 1 else None,
            looks=self._looks(escalation) if self.asked.call.per_rung and escalation is not None else (),
        )

    def _costs(self, place: int) -> tuple[float | None, float | None]:
        """Return USD of accepting and of escalating to the rung at a place."""
        call, served = self.call, self.served
        return both_costs(
            served.prices,
            self.asked.call.prompt,
            call.answer,
            call.signals,
            call.prompt_tokens,
            call.completion_tokens,
            rung_prices=None if served.is_pair else served.rung_prices,
            place=place,
        )

    def _looks(self, escalation: Escalation) -> tuple[RungLook, ...]:
        """Return what decided on the rungs above the first; p of that is the verdict's."""
        bar, served = escalation.bar, self.served
        looks = rung_looks(
            served.ladder,
            (0.0, *bar.p_rungs),
            (0.0, *bar.t_rungs),
            [self._costs(place)[0 if place == 0 else 1] for place in range(len(served.ladder))],
            self.offered,
        )
        return tuple(looks[1:])
