"""Exploration: exact propensities at every state of the cap, costs that are counted, flags that callers are told."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.running import server_in_loop
from tests.serving.test_decision_log import decisions_of
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.client import AsyncRouter
from turnout.serving.decision.costs import ExpectedCosts
from turnout.serving.decision.routes import Reason, Route
from turnout.serving.decision.rules import After, Exploration, ExplorationBudget, Facts, Rules
from turnout.serving.decision.rules.exploring import Chosen, Rates, expected_usd
from turnout.serving.decision.rules.reading import decode_rules
from turnout.serving.router.prompt import Prompt
from turnout.serving.spool.decision import LogDecisions

WEAK, STRONG = Route.WEAK, Route.STRONG
COSTS = ExpectedCosts(0.001, 0.011)
"""Exploring to the strong model costs 0.01 more."""
N_SALTS = 1000
ALARM = 1e-4
"""Keys are fixed, so that these tests either always pass or never do."""


def rules_of(toml: str) -> Rules:
    return Rules(decode_rules(toml.encode(), "test"))


def after(
    rules: Rules,
    route: Route = WEAK,
    p_match: float = 0.8,
    costs: ExpectedCosts = COSTS,
    reason: Reason = Reason.MODEL,
    budget: ExplorationBudget | None = None,
    policy: str = "max_worse=0.01",
    **fields: Any,
) -> After:
    facts = Facts(Prompt("Why?"), **{"session_id": "s"} | fields)
    return rules.after(facts, rules.before(facts), route, p_match, costs, reason, policy=policy, budget=budget)


def salted(toml: str, n_salts: int = N_SALTS) -> list[Rules]:
    spec = rules_of(toml).spec
    return [Rules(msgspec.structs.replace(spec, salt=str(salt))) for salt in range(n_salts)]


def over_salts(toml: str, **request: Any) -> list[After]:
    return [after(rules, **request) for rules in salted(toml)]


class Clock:
    """A clock that the test sets, in seconds."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.slow
@pytest.mark.parametrize("route", Route)
@pytest.mark.parametrize(("other", "both"), [(0.1, 0.0), (0.1, 0.3), (0.5, 1.0)])
def test_propensities_are_how_often_routes_and_flags_are_drawn_and_the_two_are_independent(
    route: Route, other: float, both: float
):
    found = over_salts(f"[exploration]\nrate = {other}\nboth = {both}", route=route)
    seen = Counter((one.route, one.wants_both) for one in found)
    for one in found:
        assert one.route_propensity == pytest.approx(1 - other if one.route is route else other)
        assert one.pair_propensity == both
        expected = one.route_propensity * (both if one.wants_both else 1 - both)
        assert stats.binomtest(seen[one.route, one.wants_both], N_SALTS, expected).pvalue > ALARM


def test_a_capped_request_takes_the_models_route_for_certain_and_says_why():
    toml = "[exploration]\nrate = 0.5\nboth = 0.5\nmax_usd_per_hour = 0.0"
    for rules in salted(toml, 50):
        found = after(rules, budget=ExplorationBudget(Clock()))
        assert found == After(WEAK, Reason.MODEL, 1.0, exploration=Exploration.CAPPED)


def test_state_of_the_cap_is_the_same_whatever_was_drawn():
    """So it says nothing of any draw, and the propensities hold given the state."""
    toml = "[exploration]\nrate = 0.2\nboth = 0.1\nmax_usd_per_hour = 0.05"

    def states(rules: Rules) -> list[Exploration]:
        budget = ExplorationBudget(Clock())
        return [after(rules, budget=budget, session_id=str(number)).exploration for number in range(40)]

    first, *others = map(states, salted(toml, 30))
    assert first[:17] == [Exploration.OPEN] * 17  # each counts 0.1 * 0.011 + 0.9 * 0.2 * 0.01 = 0.0029 of 0.05
    assert set(first[17:]) == {Exploration.CAPPED}
    assert all(other == first for other in others)


def test_propensities_of_requests_under_a_cap_are_how_often_they_are_drawn():
    toml = "[exploration]\nrate = 0.2\nmax_usd_per_hour = 0.0101"  # five requests of 0.2 * 0.01, and no sixth
    moved: Counter[int] = Counter()
    for rules in salted(toml):
        budget = ExplorationBudget(Clock())
        for number in range(8):
            found = after(rules, budget=budget, session_id=str(number % 4))
            moved[number] += found.reason is Reason.EXPLORATION
            stated = found.route_propensity if found.route is STRONG else 1 - found.route_propensity
            assert stated == pytest.approx(0.2 if number < 5 else 0.0)
    assert all(stats.binomtest(moved[number], N_SALTS, 0.2).pvalue > ALARM for number in range(5))
    assert sum(moved[number] for number in range(5, 8)) == 0


def test_what_is_spent_over_many_hours_is_what_the_cap_allows():
    clock = Clock()
    rules, budget = rules_of("[exploration]\nrate = 0.1\nmax_usd_per_hour = 0.1"), ExplorationBudget(clock)
    spent = 0.0
    for number in range(20_000):
        clock.now_s = number * 10.0  # 360 an hour, of which 100 may be explored
        spent += after(rules, budget=budget, request_id=str(number), session_id="").extra_usd
    assert spent == pytest.approx(0.1 * 200_000 / 3600, rel=0.1)


def test_next_hour_begins_with_nothing_counted():
    clock = Clock(3599.0)
    budget = ExplorationBudget(clock)
    assert [budget.take(1.0, 0.6) for _ in range(2)] == [Exploration.OPEN, Exploration.CAPPED]
    clock.now_s = 3600.0
    assert budget.take(1.0, 0.6) is Exploration.OPEN
    assert budget.counted_usd == 0.6


def test_under_a_cap_what_has_no_price_is_not_explored():
    unpriced = ExpectedCosts(None, 0.01)
    capped, free = "[exploration]\nboth = 1.0\nmax_usd_per_hour = 9.0", "[exploration]\nboth = 1.0"
    found = after(rules_of(capped), costs=unpriced, budget=ExplorationBudget())
    assert (found.exploration, found.wants_both, found.pair_propensity) == (Exploration.UNPRICED, False, 0.0)
    assert after(rules_of(free), costs=unpriced, budget=ExplorationBudget()).wants_both


@given(
    st.sampled_from(Route), st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 1), st.integers(0, 999)
)
def test_extra_cost_is_that_of_the_answers_less_that_of_the_choice(
    route: Route, weak: float, strong: float, other: float, both: float, salt: int
):
    costs = ExpectedCosts(weak, strong)
    found = after(rules_of(f'salt = "{salt}"\n[exploration]\nrate = {other}\nboth = {both}'), route, costs=costs)
    usd = {WEAK: weak, STRONG: strong}
    paid = weak + strong if found.wants_both else usd[found.route]
    assert found.extra_usd == pytest.approx(paid - usd[route], abs=1e-12)
    assert expected_usd(Chosen(route, Reason.MODEL, costs), Rates(other, both)) >= 0


def test_out_of_distribution_is_never_moved_and_may_be_asked_of_both():
    found = over_salts("[exploration]\nrate = 0.5\nboth = 0.5", route=STRONG, reason=Reason.OUT_OF_DISTRIBUTION)
    assert {(one.route, one.reason, one.route_propensity) for one in found} == {(STRONG, Reason.OUT_OF_DISTRIBUTION, 1)}
    assert {one.wants_both for one in found} == {True, False}


def test_where_sessions_stay_only_their_first_request_can_take_the_other_tier():
    toml = "[session]\nstay_strong = true\n[exploration]\nrate = 0.5"
    assert {one.reason for one in over_salts(toml)} == {Reason.MODEL, Reason.EXPLORATION}
    for previous, reason in ((WEAK, Reason.MODEL), (STRONG, Reason.SESSION)):
        assert {(one.reason, one.route_propensity) for one in over_salts(toml, previous=previous)} == {(reason, 1.0)}


def test_rates_are_the_rules_else_the_policys_else_the_files():
    rules = rules_of("""
        [[rules]]
        name = "lab"
        tenants = ["lab"]
        both = 0.4
        [exploration]
        rate = 0.1
        both = 0.2
        [[exploration.policies]]
        policy = "max_worse=*"
        rate = 0.3
    """)

    def rates(**request: str) -> tuple[float, float]:
        found = after(rules, **request)
        return min(found.route_propensity, 1 - found.route_propensity), found.pair_propensity

    assert rates(policy="min_quality=0.99") == pytest.approx((0.1, 0.2))
    assert rates(policy="max_worse=0.05") == pytest.approx((0.3, 0.2))
    assert rates(policy="max_worse=0.05", tenant="lab") == pytest.approx((0.3, 0.4))
    assert rates(policy="threshold=0.5", tenant="lab") == pytest.approx((0.1, 0.4))


def test_caller_log_and_metrics_are_told_of_both_and_of_what_it_costs(bundle: Bundle, tmp_path: Path):
    rules, spool = tmp_path / "rules.toml", tmp_path / "spool"
    rules.write_text("[exploration]\nrate = 0.5\nboth = 0.5\nmax_usd_per_hour = 1.0")

    async def check() -> tuple[list[Any], dict[str, float]]:
        settings = {"rules": rules, "spool": spool, "log_decisions": LogDecisions.DIGEST}
        async with (
            server_in_loop(bundle, **settings) as (server, address),
            AsyncRouter(address, timeout_s=60) as router,
        ):
            routed = [await router.route(text="hello", request_id=str(number)) for number in range(60)]
            read = server.service.metrics.registry.get_sample_value
            kinds = ("both", "to_strong", "to_weak")
            return routed, {kind: read("turnout_explorations_total", {"kind": kind}) or 0.0 for kind in kinds} | {
                "usd": sum(read("turnout_exploration_spent_usd_total", {"kind": kind}) or 0.0 for kind in kinds)
            }

    routed, counted = asyncio.run(check())
    both = [one for one in routed if one.wants_both]
    moved = [one for one in routed if one.reason == "EXPLORATION" and not one.wants_both]
    assert 10 < len(both) < 50
    assert {one.pair_propensity for one in routed} == {0.5}
    assert (counted["both"], counted["to_strong"], counted["to_weak"]) == (len(both), len(moved), 0)
    one = routed[0]
    expected = len(both) * one.strong_cost_usd + len(moved) * (one.strong_cost_usd - one.weak_cost_usd)
    assert counted["usd"] == pytest.approx(expected)
    records = decisions_of(spool)
    assert [(one.wants_both, one.pair_propensity) for one in records] == [
        (one.wants_both, one.pair_propensity) for one in routed
    ]
    assert {record.exploration for record in records} == {"open"}
    assert {(record.model, record.other_model) for record in records} == {
        ("gpt-4o", "gpt-4o-mini"),
        ("gpt-4o-mini", "gpt-4o"),
    }


def test_server_at_its_cap_counts_what_it_did_not_explore(bundle: Bundle, tmp_path: Path):
    rules = tmp_path / "rules.toml"
    rules.write_text("[exploration]\nrate = 0.5\nmax_usd_per_hour = 0.0")

    async def check() -> tuple[set[float], float | None]:
        async with (
            server_in_loop(bundle, rules=rules) as (server, address),
            AsyncRouter(address, timeout_s=60) as router,
        ):
            routed = [await router.route(text="hello", request_id=str(number)) for number in range(20)]
            name, labels = "turnout_exploration_withheld_total", {"cause": "capped"}
            counted = server.service.metrics.registry.get_sample_value(name, labels)
            return {one.route_propensity for one in routed}, counted

    assert asyncio.run(check()) == ({1.0}, 20)
