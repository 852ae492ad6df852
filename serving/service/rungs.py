"""The rungs of one request: which are offered, what each costs, p of those between.

Comes in: the bundle that answers and the request. Goes out: `Rungs`, which decisions, sessions, exploration and the
reply ask. Of a pair to which both models are offered next to nothing is made.
"""

from __future__ import annotations

import time

import msgspec

from turnout.serving.decision.costs import ExpectedCosts
from turnout.serving.decision.decision import Decision
from turnout.serving.decision.rules.climbing import Climb
from turnout.serving.decision.rules.offering import Offered
from turnout.serving.decision.rules.rules import Rules
from turnout.serving.decision.rungs import RungLook, rung_looks
from turnout.serving.router.model import Prediction
from turnout.serving.router.prompt import Prompt
from turnout.serving.router.rungs import RungHeads
from turnout.serving.service.asked import Asked
from turnout.serving.service.lineup import Served
from turnout.serving.service.model_thread import Ask, Predicted


class Rungs(msgspec.Struct, frozen=True, gc=False):
    """What is known of a request's rungs beside p.

    Attributes:
        usd: expected cost at each; of a pair its two costs; None where unknown.
        offered: those that may and can answer; None for all.
    """

    usd: tuple[float | None, ...]
    offered: Offered | None = None

    def climb(self, served: Served, asked: Asked, chosen: Decision) -> Climb | None:
        """Return what sessions and exploration ask; None for a pair of which both are offered, whose rules say it."""
        if self is PLAIN or (served.is_pair and self.offered is None and not asked.call.previous_rung):
            return None
        return Climb(
            chosen.place,
            (chosen.p_match or 0.0, *chosen.p_rungs),
            self.usd,
            tuple(range(len(served.ladder))) if self.offered is None else self.offered.places,
            asked.previous_place(served),
        )

    def looks(self, served: Served, decision: Decision) -> list[RungLook]:
        """Return what decided on each rung, for the reply."""
        p = () if decision.p_match is None else (decision.p_match, *decision.p_rungs)
        return rung_looks(served.ladder, p, (decision.threshold, *decision.t_rungs)[: len(p)], self.usd, self.offered)


PLAIN = Rungs(())
"""Of a pair, whose rules and costs say it all."""


def rungs_for(served: Served, asked: Asked, rules: Rules, tokens: int, costs: ExpectedCosts) -> Rungs:
    """Return the rungs of a request; `tokens` are those of its prompt, `costs` those of the pair."""
    offered, call = asked.offered(served, rules, tokens), asked.call
    if served.is_pair:
        is_plain = offered is None and not call.per_rung and not call.previous_rung
        return PLAIN if is_plain else Rungs((costs.weak_usd, costs.strong_usd), offered)
    usd = served.rung_prices.expected_usd(
        tokens, call.output_tokens, call.cached_tokens, asked.previous_place(served), images=call.prompt.images
    )
    return Rungs(usd, offered)


def with_rungs(heads: RungHeads, ask: Ask, predicted: Predicted, prompt: Prompt) -> Predicted:
    """Return a prediction with p of the rungs between: as the first stage left it with `ask`, else by their graph.

    Raises:
        ModelFault: as `RungHeads.p_rungs`.
    """
    said, p_rungs = predicted.prediction, ask.p_rungs
    if not p_rungs:
        p_rungs = heads.p_rungs(predicted.features or ask.features or ask.model.featurize(prompt))
    prediction = Prediction(said.p_match, said.stage, said.is_out_of_distribution, p_rungs)
    return msgspec.structs.replace(predicted, prediction=prediction, ended_ns=time.perf_counter_ns())
