"""A log of a ladder of three as a server with exploration writes it, and what is true of its requests.

The draws are those of the rules that serve. Each rung's answer is a coin whose odds depend on the request's ease; the
second look sees the luck of the first rung's answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from tests.training.spools import NOON_S, check, decision, outcome
from turnout.serving.decision.costs import ExpectedCosts
from turnout.serving.decision.routes import Route
from turnout.serving.decision.rules import Facts, Rules
from turnout.serving.decision.rules.climbing import Climb
from turnout.serving.decision.rules.reading import decode_rules
from turnout.serving.decision.rules.rules import Before
from turnout.serving.router.prompt import Prompt
from turnout.training.arrays import Floats

NAMES = ("gpt-4o-mini", "gpt-4o", "o3:high")
MODELS = ("gpt-4o-mini", "gpt-4o", "o3")
TOP = 2
AT, AT_BETWEEN = 0.75, 0.8
"""Thresholds of the policy of the day: those of the tiny ladder's default."""
USD = (0.000195, 0.00325, 0.0105)
"""Of 500 and 200 tokens, and 1,200 at the top."""
TOKENS = ((500, 200), (500, 200), (500, 1187))
PROMPT = Prompt("x")


@dataclass(frozen=True)
class Truth:
    """Of each request: p of the first two rungs, the second look's, and the chance of each rung's answer, (n, 3)."""

    p: Floats
    p_checked: Floats
    chance: Floats

    def score(self, places: Any) -> float:
        """Return the mean score of the answers of some rungs, (n,) places."""
        return float(self.chance[np.arange(len(places)), places].mean())

    def places(self, first: float, between: float) -> Any:
        """Return (n,) where a policy of one look sends the requests."""
        return np.where(self.p[:, 0] >= first, 0, np.where(self.p[:, 1] >= between, 1, TOP))


@dataclass(frozen=True)
class TriedAt:
    """Thresholds over three actions: first look, second look, and what the rung between needs of the escalated."""

    t_strong: float
    t_weak: float
    t_accept: float
    between: float


def ladder_log(
    n_sessions: int, seed: int, *, rate: float = 0.2, both: float = 0.1, tried: TriedAt | None = None
) -> tuple[list[Any], Truth]:
    """Return decisions, verdicts and outcomes in one list, and the truth; with `tried` callers have answers checked."""
    rules = Rules(decode_rules(f"[exploration]\nrate = {rate}\nboth = {both}".encode(), "test"))
    rng = np.random.default_rng(seed)
    made: list[Any] = []
    p, p_checked, chances = [], [], []
    for session in range(n_sessions):
        mood = rng.normal()
        for turn in range(1 + rng.poisson(0.5)):
            ease, luck = 0.5 * mood + rng.normal(), rng.normal()
            p.append((float(expit(1 + ease)), float(expit(1.6 + ease + 0.5 * rng.normal()))))
            p_checked.append(float(expit(0.5 + ease + 2 * luck)))
            chances.append(expit(np.array([0.3 + ease + 2 * luck * (tried is not None), 0.8 + ease, 1.6 + 0.5 * ease])))
            made += _request(f"{session}-{turn}", rules, (p[-1], p_checked[-1], chances[-1]), rng, tried)
    return made, Truth(np.array(p), np.array(p_checked), np.array(chances))


def _request(
    request_id: str, rules: Rules, world: tuple[Any, float, Floats], rng: np.random.Generator, tried: TriedAt | None
) -> list[Any]:
    p, p_checked, chance = world
    at, between = (AT, AT_BETWEEN) if tried is None else (tried.t_weak, tried.between)
    above = 1 if p[1] >= between else TOP
    is_try = tried is not None and tried.t_strong <= p[0] < tried.t_weak
    place = 0 if p[0] >= at or is_try else above
    session = request_id.partition("-")[0]
    facts, climb = Facts(PROMPT, session_id=session), Climb(place, p, USD, (0, 1, 2))
    route = Route.STRONG if place else Route.WEAK
    after = rules.after(facts, Before(), route, p[0], ExpectedCosts(USD[0], USD[-1]), climb=climb)
    drawn, taken, other = after.drawn, after.place, after.other
    is_tried = is_try and taken == 0
    obtained = {taken, *((other,) if after.wants_both else ())}
    made = [
        decision(
            request_id,
            session_id=session,
            route=after.route,
            action="try" if is_tried else after.route,
            can_check=tried is not None,
            model=MODELS[taken],
            other_model=MODELS[other if after.wants_both else (0 if taken else TOP)],
            reason=after.reason,
            p_match=p[0],
            threshold=at if tried is None or place == 0 else tried.t_strong,
            bundle="ladder/1",
            text=None,
            kept="digest",
            route_propensity=after.route_propensity,
            wants_both=after.wants_both,
            pair_propensity=after.pair_propensity,
            exploration=after.exploration,
            weak_cost_usd=USD[0],
            strong_cost_usd=USD[-1],
            rung=NAMES[taken],
            rungs=NAMES,
            p_rungs=(p[1],),
            t_rungs=(between,),
            usd_rungs=USD,
            other_rung=NAMES[other] if after.wants_both else "",
            chosen_rung="" if drawn is None else NAMES[drawn.chosen],
            take_rungs=() if drawn is None else drawn.take,
            ask_rungs=() if drawn is None else drawn.ask,
            both_propensity=0.0 if drawn is None else drawn.both,
        )
    ]
    if is_tried and tried is not None:
        is_accepted = p_checked >= tried.t_accept
        obtained |= set() if is_accepted else {above}
        said = {"model": MODELS[0] if is_accepted else MODELS[above], "rung": "" if is_accepted else NAMES[above]}
        verdict = "accept" if is_accepted else "escalate"
        fields = {"verdict": verdict, "threshold": tried.t_accept, "p_match_checked": p_checked, "bundle": "ladder/1"}
        made.append(check(request_id, checked_s=NOON_S + 1, text=None, kept="digest", **fields, **said))
    right = rng.random(3) < chance
    made += [
        outcome(
            request_id,
            model=MODELS[one],
            rung=NAMES[one] if NAMES[one] != MODELS[one] else "",
            score=float(right[one]),
            prompt_tokens=TOKENS[one][0],
            completion_tokens=TOKENS[one][1],
        )
        for one in sorted(obtained)
    ]
    return made
