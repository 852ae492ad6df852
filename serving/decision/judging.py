"""From what the second look says of an answer to what becomes of it: the threshold, and both ways' costs.

Comes in: a bundle, a policy, the answer with its signals. Goes out: the first look's log-odds, the verdict, USD.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from turnout.serving.bundles.bundle import Bundle
from turnout.serving.bundles.ladder import Rung
from turnout.serving.bundles.policy import NEVER, Policy
from turnout.serving.decision.costs import LadderPrices, PairPrices
from turnout.serving.decision.routes import Reason, Verdict, estimated_tokens
from turnout.serving.decision.rules.offering import Offered
from turnout.serving.decision.rungs import NO_BAR, Bar, rung_for, sure_bar
from turnout.serving.errors import ModelFault, NotEnabled
from turnout.serving.router.answer import Answer, Signals
from turnout.serving.router.checker import Checked, CheckerModel, CheckHead
from turnout.serving.router.model import Prediction, RouterModel, Stage
from turnout.serving.router.prompt import Prompt
from turnout.serving.router.rungs import RungHeads

LEAST_P = 1e-6
"""Probabilities are held within [this, 1 - this], as those of the first look are: log-odds stay finite."""
ANYWHERE = 0.5
"""A threshold where none matters: p is the same at all."""
SELF_CHECK_TOKENS = 40
"""Of the question that a self-check adds to prompt and answer; its own answer is one token."""


def first_look(model: RouterModel, prompt: Prompt) -> Prediction:
    """Return what the fast head says; no encoder runs.

    The band in which the fast head may not answer lies around the threshold: an answer that lies in it at the one
    end of the scale does not at the other.
    """
    features = model.featurize(prompt)
    said = model.predict_features(features, 1.0)
    return said if said.stage is Stage.FAST else model.predict_features(features, 0.0)


def look_again(
    bundle: Bundle,
    prompt: Prompt,
    answer: Answer,
    signals: Signals,
    *,
    falls_back: bool = True,
    is_stranger: bool = False,
) -> Checked:
    """Return what the bundle's second look says of an answer.

    Args:
        bundle: whose it is.
        prompt: the request.
        answer: of the weak model.
        signals: that came with it.
        falls_back: whether what is out of distribution is told by signals alone.
        is_stranger: whether it is so by its name, whatever its words.

    Raises:
        NotEnabled: the bundle has no second look.
        ModelFault: one of both looks gave NaN or a number outside [0, 1].
    """
    if bundle.checker is None:
        raise NotEnabled(f"bundle {bundle.manifest.bundle_id} has no second look; use the strong model")
    looks = bundle.model, bundle.checker
    return checked_by(*looks, prompt, answer, signals, falls_back=falls_back, is_stranger=is_stranger)


def checked_by(
    model: RouterModel,
    checker: CheckerModel,
    prompt: Prompt,
    answer: Answer,
    signals: Signals,
    *,
    falls_back: bool,
    is_stranger: bool = False,
) -> Checked:
    """Return what a second look says of an answer, given the first; raises `ModelFault` as `look_again` does."""
    first = first_look(model, prompt)
    p_match = min(1.0 - LEAST_P, max(LEAST_P, first.p_match))
    log_odds = math.log(p_match / (1.0 - p_match))
    is_unlike = falls_back and (is_stranger or first.is_out_of_distribution)
    checked = checker.check(prompt.text, answer, signals, log_odds, is_unlike)
    if checked.head is not CheckHead.NONE and not 0.0 <= checked.p_match <= 1.0:
        raise ModelFault(f"the checker gave p_match = {checked.p_match}, expected a number in [0, 1]")
    return checked


@dataclass(frozen=True, slots=True)
class Escalation:
    """Where what is not accepted goes: the place of a rung, why it is another than the policy says, and the bar."""

    place: int
    moved: Reason | None = None
    bar: Bar = NO_BAR


def escalation_of(
    bundle: Bundle,
    ladder: tuple[Rung, ...],
    policy: Policy,
    prompt: Prompt,
    offered: Offered | None = None,
    *,
    falls_back: bool = True,
    is_stranger: bool = False,
) -> Escalation:
    """Return where an escalated request goes: to the cheapest rung above the first that the policy allows.

    Args:
        bundle: whose rungs they are.
        ladder: the rungs, the cheapest first.
        policy: whose thresholds hold, over three actions where they could be met.
        prompt: the request.
        offered: the rungs that may and can answer; None for all. The first, which just failed, never is.
        falls_back: whether what is out of distribution goes to the top.
        is_stranger: whether it is so by its name.

    Raises:
        ModelFault: a head gave NaN or a number outside [0, 1].
    """
    above = offered_above_first(ladder, offered)
    if bundle.rung_heads is None:
        return Escalation(*rung_for(ladder, NO_BAR, goes_first=False, offered=above))
    is_unlike = falls_back and (is_stranger or first_look(bundle.model, prompt).is_out_of_distribution)
    checked = policy.checked if policy.checked is not None and policy.checked.is_met else None
    bar = sure_bar(bundle, policy, prompt, p_rungs_of(bundle, bundle.rung_heads, prompt), checked)
    return Escalation(*rung_for(ladder, bar, goes_first=False, is_unlike=is_unlike, offered=above), bar)


def p_rungs_of(bundle: Bundle, heads: RungHeads, prompt: Prompt) -> tuple[float, ...]:
    """Return p of each rung between: by the head in C where it holds them and reads the prompt, else by their graph.

    Raises:
        ModelFault: one is NaN or outside [0, 1].
    """
    looked = None
    if heads.is_native and bundle.fast_head is not None:
        looked = bundle.fast_head.look(prompt, ANYWHERE, None, wants_features=False)
    return heads.p_rungs(bundle.model.featurize(prompt)) if looked is None else looked.p_rungs


def offered_above_first(ladder: tuple[Rung, ...], offered: Offered | None) -> Offered | None:
    """Return what is offered without the first rung; None where that is all the others."""
    if offered is None:
        return None
    places = tuple(place for place in offered.places if place)
    return None if len(places) == len(ladder) - 1 else Offered(places, offered.refused)


def accept_threshold(policy: Policy, own_threshold: float | None = None) -> float:
    """Return what the second look's p_match has to reach: the caller's own threshold, else the policy's.

    `NEVER` where the policy has no rule over three actions, or could not keep its promise with one.
    """
    if own_threshold is not None:
        return own_threshold
    return NEVER if policy.checked is None or not policy.checked.is_met else policy.checked.t_accept


def verdict_of(checked: Checked, threshold: float) -> Verdict:
    """Return the verdict; what nothing vouches for is escalated."""
    is_accepted = checked.head is not CheckHead.NONE and checked.p_match >= threshold
    return Verdict.ACCEPT if is_accepted else Verdict.ESCALATE


def both_costs(
    prices: PairPrices,
    prompt: Prompt,
    answer: Answer,
    signals: Signals,
    prompt_tokens: int | None = None,
    completion_tokens: int | None = None,
    *,
    rung_prices: LadderPrices | None = None,
    place: int = -1,
) -> tuple[float | None, float | None]:
    """Return USD of accepting, which is spent, and of escalating: that and the strong model's expected answer.

    Args:
        prices: of the pair.
        prompt: the request.
        answer: of the weak model; the strong one's is taken to be as long.
        signals: a self-check among them was one more call of the weak model.
        prompt_tokens: as the vendor counted them; None for an estimate.
        completion_tokens: likewise.
        rung_prices: of a ladder; None for a pair.
        place: of the rung that it is escalated to.
    """
    estimated = estimated_tokens(prompt.text) + prompt.extra_tokens
    n_prompt = estimated if prompt_tokens is None else prompt_tokens
    n_answer = estimated_tokens(answer.text) if completion_tokens is None else completion_tokens
    images = prompt.images if prompt_tokens is None else 0  # the vendor's count holds them
    costs = prices.expected_costs(n_prompt, n_answer, images=images)
    accept = costs.weak_usd
    if accept is not None and signals.self_check is not None:
        accept += self_check_usd(prices, n_prompt, n_answer, images=images) or 0.0
    above = costs.strong_usd
    if rung_prices is not None:
        above = rung_prices.expected_usd(n_prompt, n_answer, images=images)[place]
    escalate = None if accept is None or above is None else accept + above
    return accept, escalate


def self_check_usd(prices: PairPrices, prompt_tokens: int, answer_tokens: int, *, images: int = 0) -> float | None:
    """Return USD of asking the weak model whether its answer is right; None where its price is unknown."""
    return prices.expected_costs(prompt_tokens + answer_tokens + SELF_CHECK_TOKENS, 1, images=images).weak_usd
