"""A trial on a log says what serving with the rules would do."""

from __future__ import annotations

import pytest

from tests.builders import tiny_bundle
from tests.log_builders import record
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.decision.costs import PairPrices
from turnout.serving.decision.rules import Rules, RulesSpec
from turnout.serving.decision.rules.reading import decode_rules
from turnout.training.logs.records import Record
from turnout.training.offpolicy.rules_trial import RuleEffect, RulesTrial, try_rules

EASY = "hello there"
HARD = "word " * 60
"""The tiny bundle's p_match falls with the length: 0.93 and below 0.5."""
NAN = "7 digits"


def rules_of(toml: str) -> Rules:
    return Rules(decode_rules(toml.encode(), "test"))


def trial(bundle: Bundle, records: list[Record], new: str, old: str = "") -> RulesTrial:
    return try_rules(records, [bundle], rules_of(new), rules_of(old))


def effects(found: RulesTrial) -> dict[str, RuleEffect]:
    return {effect.rule: effect for effect in found.rules}


def test_without_a_change_nothing_changes(bundle: Bundle):
    records = [record(EASY, id="a"), record(HARD, id="b"), record(NAN, id="c")]
    found = trial(bundle, records, "")
    assert (found.total.changed, found.idle, list(effects(found))) == (0, [], [""])
    assert found.total.share_weak_before == found.total.share_weak_after == pytest.approx(1 / 3)
    assert found.total.reasons == {"MODEL": 2, "INVALID": 1}


def test_each_rule_is_told_with_what_it_does(bundle: Bundle):
    records = [
        *[record(EASY, id=f"l{index}", task="legal") for index in range(3)],
        *[record(EASY, id=f"a{index}", tenant="acme") for index in range(2)],
        record(HARD, id="b", tenant="acme"),
        record(HARD, id="c"),
    ]
    toml = """
        [[rules]]
        name = "legal"
        tasks = ["legal"]
        route = "strong"
        [[rules]]
        name = "acme"
        tenants = ["acme"]
        threshold = 0.0
        [[rules]]
        name = "nobody"
        tenants = ["nobody"]
    """
    found = trial(bundle, records, toml)
    told = effects(found)
    assert list(told) == ["legal", "acme", ""]
    assert found.idle == ["nobody"]
    legal, acme = told["legal"], told["acme"]
    assert (legal.requests, legal.changed, legal.share_weak_before, legal.share_weak_after) == (3, 3, 1.0, 0.0)
    assert legal.reasons == {"RULE": 3}
    assert (acme.requests, acme.changed, acme.share_weak_before, acme.share_weak_after) == (3, 1, 2 / 3, 1.0)
    assert (found.total.requests, found.total.changed) == (7, 4)


def test_costs_are_those_of_the_tiers_taken(bundle: Bundle):
    prices = PairPrices.of(bundle.manifest.pair)
    cost = prices.expected_costs(-(-len(EASY) // 4), 200)
    assert cost.strong_usd is not None
    assert cost.weak_usd is not None
    found = trial(bundle, [record(EASY)], 'otherwise = "strong"')
    assert found.total.usd_per_1k_before == pytest.approx(1000 * cost.weak_usd)
    assert found.total.usd_per_1k_after == pytest.approx(1000 * cost.strong_usd)


def test_a_rollout_and_its_raise(bundle: Bundle):
    records = [record(EASY, id=str(index)) for index in range(400)]

    def toml(percent: int) -> str:
        return f'[[rules]]\nname = "all"\nrollout_percent = {percent}'

    found = trial(bundle, records, toml(50), toml(20))
    assert found.total.share_weak_before == pytest.approx(0.2, abs=0.08)
    assert found.total.share_weak_after == pytest.approx(0.5, abs=0.1)
    gained = found.total.share_weak_after - found.total.share_weak_before
    assert found.total.changed == round(400 * gained)  # nobody left
    assert found.total.reasons.keys() == {"MODEL", "ROLLOUT"}


def test_sessions_are_followed_in_their_order(bundle: Bundle):
    records = [
        record(EASY, id="1", session_id="s"),
        record(HARD, id="2", session_id="s"),
        record(EASY, id="3", session_id="s"),
        record(EASY, id="4", session_id="other"),
        record(EASY, id="5"),
    ]
    found = trial(bundle, records, "[session]\nstay_strong = true")
    assert found.total.reasons == {"MODEL": 4, "SESSION": 1}
    assert found.total.changed == 1


def test_a_second_bundle_answers_where_a_rule_names_it(bundle: Bundle, tmp_path):
    digits = load_bundle(tiny_bundle(tmp_path / "digits"))
    rules = rules_of('[[rules]]\nname = "all"\nbundle = "tiny/1"')
    assert try_rules([record(NAN)], [bundle], rules, Rules()).total.reasons == {"INVALID": 1}
    assert try_rules([record(NAN)], [digits], rules, Rules(RulesSpec())).total.reasons == {"MODEL": 1}
