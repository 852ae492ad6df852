"""The rungs of a bundle as a trial sees them: what each costs, which are offered, where a session stood.

Comes in: a bundle, rules, a request. Goes out: what `serving.service.rungs` tells the path of a request. A pair is the
ladder of two.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from turnout.serving.bundles.bundle import Bundle
from turnout.serving.bundles.ladder import Rung
from turnout.serving.decision.costs import DEFAULT_OUTPUT_TOKENS, ExpectedCosts, LadderPrices
from turnout.serving.decision.decision import Decision
from turnout.serving.decision.routes import Route
from turnout.serving.decision.rules import Before, Rules
from turnout.serving.decision.rules.climbing import Climb
from turnout.serving.decision.rules.offering import Asking, Offered
from turnout.serving.router.content import IMAGE_TOKENS
from turnout.serving.router.prompt import Prompt


@dataclass(frozen=True, slots=True)
class TrialLadder:
    """The ladder of a bundle, and today's prices of its rungs."""

    rungs: tuple[Rung, ...]
    prices: LadderPrices
    is_pair: bool

    @classmethod
    def of(cls, bundle: Bundle) -> TrialLadder:
        """Return the ladder of a bundle."""
        rungs = bundle.manifest.ladder
        return cls(rungs, LadderPrices.of(rungs), bundle.manifest.rungs is msgspec.UNSET)

    @property
    def names(self) -> list[str]:
        """Names of the rungs, the cheapest first."""
        return [rung.name for rung in self.rungs]

    def offered(self, rules: Rules, before: Before, prompt: Prompt, tokens: int, output: int | None) -> Offered | None:
        """Return the rungs that may and can answer; None for all. `tokens` are those of the prompt, without images."""
        windows = self.prices.windows
        total = tokens + (DEFAULT_OUTPUT_TOKENS if output is None else output) + IMAGE_TOKENS * prompt.images
        if total <= min(windows) and not rules.has_models and not before.allow:
            return None
        names = tuple((rung.name, rung.model) for rung in self.rungs)
        return rules.limits(names, windows).offered(Asking(prompt, total, before.allow))

    def usd(
        self, costs: ExpectedCosts, tokens: int, output: int | None, cached: int, previous: int | None, images: int
    ) -> tuple[float | None, ...]:
        """Return the expected cost at each rung; of a pair those of its two models."""
        if self.is_pair:
            return costs.weak_usd, costs.strong_usd
        return self.prices.expected_usd(tokens, output, cached, previous, images=images)

    def climb(
        self, chosen: Decision, usd: tuple[float | None, ...], offered: Offered | None, previous: int | None
    ) -> Climb | None:
        """Return what sessions and exploration ask; None for a pair of which both are offered, whose rules say it."""
        if self.is_pair and offered is None:
            return None
        places = tuple(range(len(self.rungs))) if offered is None else offered.places
        return Climb(chosen.place, (chosen.p_match or 0.0, *chosen.p_rungs), usd, places, previous)

    def route_at(self, place: int | None) -> Route | None:
        """Return the end of the ladder that a place is; None for a rung between, and for none."""
        return {0: Route.WEAK, len(self.rungs) - 1: Route.STRONG}.get(-1 if place is None else place)
