"""Canary and shadow on the path of a request: who gets to see it, and what comes of that."""

from __future__ import annotations

from turnout.serving.decision.decision import Decision
from turnout.serving.decision.rules.draws import Purpose, draw
from turnout.serving.errors import ModelFault, RequestError, UnknownName
from turnout.serving.observe.incidents import report_incident
from turnout.serving.service.asked import Asked
from turnout.serving.service.canary import CanaryWatch
from turnout.serving.service.lifecycle import Lifecycle
from turnout.serving.service.lineup import Lineup, Served
from turnout.serving.service.shadow import CheckSighting, Comparison, Shadow, Sighting
from turnout.serving.wire.check import CheckCall, Judgement

_NO_SALT = ""
"""Shares of canary and shadow depend on the key alone: every worker and replica draws the same."""


class Challengers:
    """Lets the challengers of a lifecycle take part.

    Attributes:
        shadow: what compares the shadow's answers.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        """Take the lifecycle, from which a bad canary is taken back."""
        self._metrics = lifecycle.metrics
        self.shadow = Shadow(self._compared)
        self._lifecycle = lifecycle
        self._watch = CanaryWatch()
        self._watched: Served | None = None

    def canary_for(self, lineup: Lineup, asked: Asked) -> Served | None:
        """Return the canary when this request is in its share and no bundle was named."""
        if lineup.canary is None or asked.wanted_bundle:
            return None
        share = self._lifecycle.sources.canary_share
        return lineup.canary if draw(Purpose.CANARY, _NO_SALT, asked.facts.draw_key) < share else None

    def stand_in(self, canary: Served, error: Exception) -> None:
        """Take in that the canary failed on a request, which the default bundle is to answer now.

        Raises:
            Exception: `error` again, where the request and not the canary is at fault.
        """
        if isinstance(error, UnknownName):
            return  # the canary lacks the policy that is wanted: no fault
        if isinstance(error, RequestError) and not isinstance(error, ModelFault):
            raise error
        report_incident(error)
        self._of(canary).fault()
        self._judge()

    def took(self, served: Served, model_ns: int) -> None:
        """Take in the time of an answer, in nanoseconds of the model."""
        lineup = self._lifecycle.lineup
        if lineup.canary is not None and served in (lineup.canary, lineup.default):
            self._of(lineup.canary).answered(model_ns, by_canary=served is lineup.canary)
            self._judge()

    def show(self, lineup: Lineup, served: Served, asked: Asked, chosen: Decision) -> None:
        """Let the shadow see what the model of the default bundle chose."""
        if lineup.shadow is None or served is not lineup.default or chosen.p_match is None:
            return
        if draw(Purpose.SHADOW, _NO_SALT, asked.facts.draw_key) < self._lifecycle.sources.shadow_share:
            taken = self.shadow.show(
                Sighting(
                    bundle=lineup.shadow.bundle,
                    prompt=asked.call.prompt,
                    policy=chosen.policy,
                    threshold=chosen.threshold,
                    p_match=chosen.p_match,
                    action=chosen.action,
                    falls_back=asked.before.falls_back,
                    can_check=asked.call.can_check,
                    is_stranger=asked.is_stranger(lineup.shadow),
                )
            )
            if not taken:
                self._metrics.shadow_dropped()

    def show_verdict(self, lineup: Lineup, served: Served, asked: Asked, call: CheckCall, judged: Judgement) -> None:
        """Let the shadow see what the second look of the default bundle made of an answer."""
        shadow = lineup.shadow
        if shadow is None or shadow.bundle.checker is None or served is not lineup.default or not judged.head:
            return
        if draw(Purpose.SHADOW, _NO_SALT, asked.facts.draw_key) < self._lifecycle.sources.shadow_share:
            taken = self.shadow.show(
                CheckSighting(
                    bundle=shadow.bundle,
                    prompt=asked.call.prompt,
                    answer=call.answer,
                    signals=call.signals,
                    policy=judged.policy,
                    own_threshold=asked.call.threshold,
                    verdict=judged.verdict,
                    falls_back=asked.before.falls_back,
                    is_stranger=asked.is_stranger(shadow),
                )
            )
            if not taken:
                self._metrics.shadow_dropped()

    def _compared(self, seen: Comparison) -> None:
        if seen.is_check:
            self._metrics.shadow_check(agrees=seen.agrees)
        else:
            self._metrics.shadow(agrees=seen.agrees, abs_dp=seen.distance)

    def close(self) -> None:
        """Let the shadow's thread end."""
        self.shadow.close()

    def _of(self, canary: Served) -> CanaryWatch:
        if self._watched is not canary:
            self._watched, self._watch = canary, CanaryWatch()
        return self._watch

    def _judge(self) -> None:
        if self._watch.verdict is not None and self._lifecycle.lineup.canary is self._watched:
            self._lifecycle.take_canary_back(self._watch.verdict)
