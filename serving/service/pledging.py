"""Pledges: what the outcomes of a request that both models answer will say of the promise it was decided under.

Comes in: a decision, and what the model said. Goes out: a `Pledge`; None where a request tells nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from turnout.serving.bundles.ladder import Rung
from turnout.serving.bundles.policy import NEVER
from turnout.serving.decision.decision import Decision, action_of
from turnout.serving.decision.routes import Action, Route
from turnout.serving.decision.rules.exploring import After, Exploring
from turnout.serving.observe.drift.pairs import Pledge
from turnout.serving.observe.drift.promises import OVER_THREE, Promises
from turnout.serving.observe.drift.watch import Lower
from turnout.serving.router.model import Prediction
from turnout.serving.service.asked import Asked
from turnout.serving.service.lineup import Served


def pledge_of(
    promises: Promises,
    asked: Asked,
    served: Served,
    chosen: Decision,
    after: After,
    prediction: Prediction,
    exploring: Exploring,
) -> Pledge | None:
    """Return what a request's outcomes will say of a promise.

    Args:
        promises: those that are watched.
        asked: the request.
        served: the bundle that decided.
        chosen: its decision, before session and exploration.
        after: what these made of it.
        prediction: what the model said.
        exploring: how much the rules in force explore.
    """
    if not after.wants_both or not asked.call.request_id:
        return None
    if not served.is_pair:
        return _pledge_of_rungs(promises, asked, served, chosen, after, exploring)
    over_three = chosen.over_three
    if over_three and after.route is not chosen.route:
        return None  # moved by a draw: of a tried one the verdict is not known, and so none of them counts
    steps = promises.thresholds(served.manifest, asked.policy(served), over_three=over_three)
    if not steps:
        return None
    falls_back = asked.before.falls_back
    depth = (
        _depth_of_three(asked, served, chosen, prediction, steps)
        if over_three
        else sum(prediction.goes_weak(threshold, falls_back=falls_back) for threshold in steps)
    )
    return Pledge(
        served.manifest.bundle_id,
        chosen.policy + OVER_THREE * over_three,
        asked.call.task,
        depth,
        chosen.route is Route.WEAK,
        after.pair_propensity,
        exploring.least_both,
        hash(asked.call.session_id) if asked.call.session_id else 0,
        steps if chosen.is_tried else (),
    )


def lower_of(decision: Decision, ladder: Sequence[Rung]) -> Lower:
    """Return the rung that a decision has compared with the top, and p that it is not worse."""
    top = len(ladder) - 1
    other = None if decision.other is None else ladder.index(decision.other)
    place = other if decision.place == top and other is not None else decision.place
    p = (decision.p_match, *decision.p_rungs)
    return Lower(ladder[place].name, p[place] if place < len(p) else None, is_taken=place == decision.place)


def _pledge_of_rungs(
    promises: Promises, asked: Asked, served: Served, chosen: Decision, after: After, exploring: Exploring
) -> Pledge | None:
    """Return what the answers of a rung and of the top say of a ladder's promise; None where they tell nothing.

    What the caller would have got without exploration, a rung below the top, is told by that rung beside the top alone;
    the top itself is not worse, whichever rung was wanted beside it. The probability of being told is divided by the
    smallest with which no draw moves a request, a constant of the rules: so none is below their smallest `both`.
    """
    drawn, top = after.drawn, len(served.ladder) - 1
    if drawn is None or chosen.over_three:
        return None  # what was escalated to a rung between, nobody compares with the top
    own, below = drawn.chosen, min(after.place, after.other)
    if own not in (top, below):
        return None
    policy = asked.policy(served)
    if not promises.thresholds(served.manifest, policy):
        return None
    told = drawn.both if own == top else drawn.both * drawn.take[own] + drawn.ask[own] - drawn.take[own]
    return Pledge(
        served.manifest.bundle_id,
        chosen.policy,
        asked.call.task,
        0,
        own != top,
        told / (1.0 - exploring.most_other),
        exploring.least_both,
        hash(asked.call.session_id) if asked.call.session_id else 0,
        step=promises.step(served.manifest, policy),
    )


def _depth_of_three(
    asked: Asked, served: Served, chosen: Decision, prediction: Prediction, steps: tuple[float, ...]
) -> int:
    """Return at how many steps the caller gets the weak answer, as far as the first look tells.

    What is tried learns the rest from its check. What no second look was asked about, though at other steps one would
    have been, counts as accepted there: where thresholds are in doubt, the stricter one is taken.
    """
    policy = asked.policy(served)
    as_solved = action_of(policy, prediction, asked.checked(served, policy), falls_back=asked.before.falls_back)
    if as_solved is Action.STRONG:
        return 0
    if chosen.is_tried:
        return int(as_solved is Action.WEAK)
    return sum(threshold < NEVER for threshold in steps)
