"""Rules decide in their order: before the model, and on what it said."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.serving.decision.costs import ExpectedCosts
from turnout.serving.decision.routes import MAX_ESTIMATED_TOKENS, Reason, Route
from turnout.serving.decision.rules import After, Before, Facts, Rules
from turnout.serving.decision.rules.reading import decode_rules
from turnout.serving.errors import RulesRefused
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.prompt import Prompt

WEAK, STRONG = Route.WEAK, Route.STRONG
NO_PRICES = ExpectedCosts(None, None)
WEAK_SAVES = ExpectedCosts(0.001, 0.002)
WEAK_COSTS_AS_MUCH = ExpectedCosts(0.002, 0.002)


def rules_of(toml: str) -> Rules:
    return Rules(decode_rules(toml.encode(), "test"))


def facts(text: str = "Why?", *, images: int = 0, tools: int = 0, **fields: Any) -> Facts:
    return Facts(Prompt(text, images=images, tools=tools), **fields)


def outcome(before: Before) -> tuple[Route | None, Reason | None, str]:
    return before.route, before.reason, before.rule


def after(toml: str, route: Route = WEAK, p_match: float = 0.8, costs: ExpectedCosts = NO_PRICES, **fields: Any):
    rules, request = rules_of(toml), facts(**fields)
    return rules.after(request, rules.before(request), route, p_match, costs)


def test_reasons_are_those_of_the_proto():
    named = {name.removeprefix("REASON_") for name in pb.Reason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118  # no dict
    assert {reason.name for reason in Reason} - {"INVALID"} == named


@given(st.text(max_size=50), st.text(max_size=5), st.text(max_size=5), st.integers(0, 2), st.integers(0, 2))
def test_without_a_file_only_requests_without_text_or_with_images_are_decided(
    text: str, tenant: str, task: str, images: int, tools: int
):
    request = facts(text, images=images, tools=tools, tenant=tenant, task=task)
    assert Rules().before(request) == (Before() if text.strip() and not images else Before(STRONG, Reason.RULE))


def test_without_a_file_the_limit_is_50_000_tokens_of_four_bytes():
    for letter in ("a", "ß", "語", "😀"):
        letters = 4 * MAX_ESTIMATED_TOKENS // len(letter.encode())
        assert Rules().before(facts(letter * letters)).route is None
        assert outcome(Rules().before(facts(letter * (letters + 1)))) == (STRONG, Reason.TOO_LONG, "")


@given(st.sampled_from(Route), st.floats(0, 1), st.sampled_from([None, WEAK, STRONG]))
def test_without_a_file_the_models_choice_stands(route: Route, p_match: float, previous: Route | None):
    request = facts(previous=previous)
    for costs in (NO_PRICES, WEAK_SAVES):
        assert Rules().after(request, Rules().before(request), route, p_match, costs) == After(route, Reason.MODEL, 1.0)


def test_without_a_file_a_request_takes_some_microseconds_more():
    rules, prompt, rounds = Rules(), Prompt("word " * 100), 2000

    def once() -> float:
        started = time.perf_counter()
        for _ in range(rounds):
            request = Facts(prompt, "acme", "chat", "s-1", "r-1")
            rules.after(request, rules.before(request), WEAK, 0.9, NO_PRICES)
        return (time.perf_counter() - started) / rounds

    assert min(once() for _ in range(10)) < 50e-6  # 2 to 7 on a machine with nothing and with much to do


def test_the_first_rule_that_fits_applies():
    rules = rules_of("""
        policy = "max_worse=0.01"
        [[rules]]
        name = "legal"
        tasks = ["legal*", "contract-?"]
        route = "strong"
        [[rules]]
        name = "acme"
        tenants = ["acme"]
        policy = "max_worse=0.05"
        bundle = "support"
        [[rules]]
        name = "cheap"
        tenants = ["ac*"]
        tasks = ["draft"]
        threshold = 0.5
        exploration = 0.25
        [[rules]]
        name = "bulk"
        tasks = ["bulk"]
        route = "weak"
        [exploration]
        rate = 0.1
    """)
    acme = Before(rule="acme", policy="max_worse=0.05", bundle="support")
    unnamed = Before(policy="max_worse=0.01")
    for tenant, task, expected in (
        ("", "", unnamed),
        ("Acme", "Legal", unnamed),
        ("acme", "contract-12", acme),
        ("acme", "draft", acme),
        ("ace", "draft", Before(rule="cheap", threshold=0.5, exploration=0.25)),
        ("ace", "other", unnamed),
    ):
        assert rules.before(facts(tenant=tenant, task=task)) == expected, (tenant, task)
    for task in ("legal", "legal/7", "contract-1"):
        assert outcome(rules.before(facts(tenant="acme", task=task))) == (STRONG, Reason.RULE, "legal")
    assert outcome(rules.before(facts(task="bulk"))) == (WEAK, Reason.RULE, "bulk")


def test_the_empty_pattern_names_requests_without_a_tenant():
    rules = rules_of('[[rules]]\nname = "nobody"\ntenants = [""]\nroute = "strong"')
    assert rules.before(facts()).rule == "nobody"
    assert rules.before(facts(tenant="x")) == Before()


def test_allow_list_sends_what_no_rule_names_to_the_strong_model():
    rules = rules_of('otherwise = "strong"\n[[rules]]\nname = "chat"\ntasks = ["chat"]')
    assert outcome(rules.before(facts(task="chat"))) == (None, None, "chat")
    assert outcome(rules.before(facts(task="code"))) == (STRONG, Reason.RULE, "")
    assert outcome(rules_of('otherwise = "strong"').before(facts())) == (STRONG, Reason.RULE, "")


def test_guards_come_after_rules_and_before_the_model():
    toml = """
        max_estimated_tokens = 2
        images = "strong"
        tools = "strong"
        [[rules]]
        name = "bulk"
        tasks = ["bulk"]
        route = "weak"
        [[rules]]
        name = "chat"
        tasks = ["chat"]
    """
    before = rules_of(toml).before
    assert outcome(before(facts("12345678", task="chat"))) == (None, None, "chat")
    assert outcome(before(facts("123456789", task="chat"))) == (STRONG, Reason.TOO_LONG, "chat")
    assert outcome(before(facts("123456789", images=1))) == (STRONG, Reason.TOO_LONG, "")
    assert outcome(before(facts("x", images=1, task="chat"))) == (STRONG, Reason.RULE, "chat")
    assert outcome(before(facts("x", tools=1))) == (STRONG, Reason.RULE, "")
    assert outcome(before(facts("123456789", images=1, task="bulk"))) == (WEAK, Reason.RULE, "bulk")


def test_images_without_text_go_strong_whatever_a_rule_says():
    rules = rules_of('[[rules]]\nname = "all"\nroute = "weak"')
    assert outcome(rules.before(facts(" \n", images=1))) == (STRONG, Reason.RULE, "all")


def test_a_rules_policy_goes_with_its_bundle():
    before = rules_of("""
        policy = "max_worse=0.01"
        [[rules]]
        name = "support"
        bundle = "support/2"
        policy = "max_worse=0.05"
    """).before
    for wanted in ("", "support", "support/2"):
        assert (before(facts(bundle=wanted)).policy, before(facts(bundle=wanted)).bundle) == (
            "max_worse=0.05",
            "support/2",
        )
    for wanted in ("other", "support/3", "sup", "other/2"):
        assert (before(facts(bundle=wanted)).policy, before(facts(bundle=wanted)).bundle) == ("max_worse=0.01", "")


def test_a_session_that_was_strong_stays_where_the_file_says_so():
    for toml, costs, stays in (
        ("", WEAK_SAVES, False),
        ("", WEAK_COSTS_AS_MUCH, True),
        ("", NO_PRICES, False),
        ("[session]\ncount_switch_cost = false", WEAK_COSTS_AS_MUCH, False),
        ("[session]\nstay_strong = true", WEAK_SAVES, True),
        ("[session]\nstay_strong = true", NO_PRICES, True),
    ):
        expected = After(STRONG, Reason.SESSION, 1.0) if stays else After(WEAK, Reason.MODEL, 1.0)
        assert after(toml, WEAK, costs=costs, previous=STRONG) == expected, (toml, costs)
        for previous in (None, WEAK):
            assert after(toml, WEAK, costs=costs, previous=previous) == After(WEAK, Reason.MODEL, 1.0)


@given(
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, WEAK, STRONG]),
    st.floats(0, 1),
    st.sampled_from([NO_PRICES, WEAK_SAVES, WEAK_COSTS_AS_MUCH]),
)
def test_no_session_keeps_a_request_weak_that_the_policy_sends_strong(
    stay: bool, count: bool, previous: Route | None, p_match: float, costs: ExpectedCosts
):
    toml = f"[session]\nstay_strong = {str(stay).lower()}\ncount_switch_cost = {str(count).lower()}"
    assert after(toml, STRONG, p_match, costs, previous=previous) == After(STRONG, Reason.MODEL, 1.0)


def test_hopeless_requests_are_not_explored_to_the_weak_model():
    toml = "[exploration]\nrate = 0.5\nmin_p_match = 0.3"
    hopeless = {after(toml, STRONG, 0.29, session_id=str(index)) for index in range(50)}
    assert hopeless == {After(STRONG, Reason.MODEL, 1.0)}
    hopeful = {after(toml, STRONG, 0.3, session_id=str(index)).reason for index in range(50)}
    assert hopeful == {Reason.MODEL, Reason.EXPLORATION}
    to_strong = {after(toml, WEAK, 0.1, session_id=str(index)).route for index in range(50)}
    assert to_strong == {WEAK, STRONG}


def test_a_refused_file_says_nothing_of_rules_in_force():
    with pytest.raises(RulesRefused, match="otherwise"):
        rules_of('otherwise = "weak"')
