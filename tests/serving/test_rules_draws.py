"""Draws are uniform, independent and stable; propensities are the probabilities that they say they are."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from turnout.serving.decision.costs import ExpectedCosts
from turnout.serving.decision.routes import Reason, Route
from turnout.serving.decision.rules import Facts, Purpose, Rules, RulesSpec, draw
from turnout.serving.decision.rules.spec import ExplorationSpec, RuleSpec, SessionSpec
from turnout.serving.router.prompt import prompt_from_text

N_DRAWS = 20_000
ALARM = 1e-4
"""Keys are fixed, so that these tests either always pass or never do."""
FIXED = [0.17056263054737175, 0.3356365127668862, 0.37601833612277014, 0.5808567645486039, 0.14422770579519095]
KEYS = st.text(max_size=20)
NO_PRICES = ExpectedCosts(None, None)


def draws_over_keys(purpose: Purpose, salt: str = "salt") -> np.ndarray:
    return np.array([draw(purpose, salt, f"session-{index}") for index in range(N_DRAWS)])


@pytest.mark.parametrize("purpose", Purpose)
def test_draws_are_uniform_over_keys_and_over_salts(purpose: Purpose):
    over_salts = [draw(purpose, str(index), "session") for index in range(N_DRAWS)]
    for found in (draws_over_keys(purpose), over_salts):
        assert stats.kstest(found, "uniform").pvalue > ALARM


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((Purpose.ROLLOUT, "salt"), (Purpose.EXPLORATION, "salt")),
        ((Purpose.ROLLOUT, "salt"), (Purpose.CANARY, "salt")),
        ((Purpose.EXPLORATION, "salt"), (Purpose.CANARY, "salt")),
        ((Purpose.ROLLOUT, "salt"), (Purpose.ROLLOUT, "salu")),
    ],
)
def test_draws_of_other_purposes_and_salts_are_independent(one: tuple[Purpose, str], other: tuple[Purpose, str]):
    table, _, _ = np.histogram2d(draws_over_keys(*one), draws_over_keys(*other), bins=10, range=[[0, 1], [0, 1]])
    assert stats.chi2_contingency(table).pvalue > ALARM


@given(st.sampled_from(Purpose), st.text(max_size=16), KEYS)
def test_a_draw_is_the_same_each_time_and_below_1(purpose: Purpose, salt: str, key: str):
    first = draw(purpose, salt, key)
    assert 0.0 <= first < 1.0
    assert draw(purpose, salt, key) == first


def test_draws_are_those_of_earlier_releases():
    """Another hash would reshuffle every rollout at an upgrade."""
    assert [draw(purpose, "2026-11", "s-1") for purpose in Purpose] == FIXED


def rollout(percent: float, salt: str = "") -> Rules:
    return Rules(RulesSpec(salt=salt, rules=(RuleSpec(name="r", rollout_percent=percent),)))


@given(st.floats(0, 100), st.floats(0, 100), KEYS)
def test_raising_the_percentage_only_adds_sessions(one: float, other: float, session: str):
    low, high = sorted((one, other))
    facts = Facts(prompt_from_text("Why?"), session_id=session)
    if rollout(low).before(facts).route is None:
        assert rollout(high).before(facts).route is None


@given(KEYS)
def test_0_percent_is_nobody_and_100_percent_everybody(session: str):
    facts = Facts(prompt_from_text("Why?"), session_id=session)
    refused = rollout(0).before(facts)
    assert (refused.route, refused.reason, refused.rule) == (Route.STRONG, Reason.ROLLOUT, "r")
    assert rollout(100).before(facts).route is None


def test_a_rollout_takes_the_share_that_it_says():
    facts = [Facts(prompt_from_text("Why?"), session_id=str(index)) for index in range(N_DRAWS)]
    let_in = sum(rollout(20).before(one).route is None for one in facts)
    assert stats.binomtest(let_in, N_DRAWS, 0.2).pvalue > ALARM


@given(KEYS.filter(bool), KEYS, KEYS, st.text(max_size=20), st.text(max_size=20))
def test_a_session_draws_alike_whatever_its_requests(session: str, one: str, other: str, text: str, next_text: str):
    first = Facts(prompt_from_text(text), session_id=session, request_id=one)
    second = Facts(prompt_from_text(next_text), session_id=session, request_id=other)
    assert first.draw_key == second.draw_key == session
    assert Facts(prompt_from_text(text), request_id="r-1").draw_key == "r-1"
    assert Facts(prompt_from_text(text)).draw_key == text


@pytest.mark.slow
@pytest.mark.parametrize("choice", Route)
@pytest.mark.parametrize("p_match", [0.2, 0.9])
@pytest.mark.parametrize("previous", [None, Route.STRONG])
@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5])
def test_propensity_is_how_often_the_tier_is_taken_over_salts(
    choice: Route, p_match: float, previous: Route | None, stays: bool, rate: float
):
    """Among the salts whose rollout lets the model decide: the draw of the rollout changes nothing."""
    facts = Facts(prompt_from_text("Why?"), session_id="s", previous=previous)
    taken: Counter[Route] = Counter()
    stated: dict[Route, float] = {}
    for index in range(3000):
        spec = RulesSpec(
            salt=str(index),
            rules=(RuleSpec(name="half", rollout_percent=50),),
            session=SessionSpec(stay_strong=stays),
            exploration=ExplorationSpec(rate=rate, min_p_match=0.5),
        )
        rules = Rules(spec)
        before = rules.before(facts)
        if before.route is not None:
            continue
        found = rules.after(facts, before, choice, p_match, NO_PRICES)
        taken[found.route] += 1
        assert stated.setdefault(found.route, found.route_propensity) == found.route_propensity
    n_decided = taken.total()
    assert 1300 < n_decided < 1700
    assert sum(stated.values()) == pytest.approx(1.0)
    for route, propensity in stated.items():
        assert propensity > 0
        assert stats.binomtest(taken[route], n_decided, propensity).pvalue > ALARM
