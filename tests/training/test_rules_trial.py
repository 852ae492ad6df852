"""A trial on a log says what serving with the rules would do."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from tests.builders import tiny_bundle
from tests.checkers import with_second_look
from tests.log_builders import record
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.policy import NEVER
from turnout.serving.decision.costs import PairPrices
from turnout.serving.decision.judging import SELF_CHECK_TOKENS
from turnout.serving.decision.rules import Rules, RulesSpec
from turnout.serving.decision.rules.reading import decode_rules
from turnout.training.logs.records import Record, Response
from turnout.training.offpolicy.rules_trial import RuleEffect, RulesTrial, can_follow_two_looks, try_rules

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


SURE, UNSURE = Response("Paris.", mean_logprob=-0.01), Response("Lyon.", mean_logprob=-2.0)
"""What the second look of the tests accepts, and what it escalates."""


def answered(number: int, weak: Response | None, prompt: str = EASY, **fields: object) -> Record:
    return dataclasses.replace(record(prompt, id=str(number), **fields), weak=weak)


def two_look_trial(bundle: Bundle, records: list[Record], new: str = "", old: str = "") -> RulesTrial:
    return try_rules(records, [with_second_look(bundle)], rules_of(new), rules_of(old), can_check=True)


def test_what_is_tried_ends_as_the_second_look_says(bundle: Bundle):
    records = [answered(number, SURE) for number in range(3)] + [answered(3, UNSURE)]
    total = two_look_trial(bundle, records, old='otherwise = "strong"').total
    assert (total.share_tried_before, total.share_weak_before, total.share_waits_twice_before) == (0.0, 0.0, 0.0)
    assert (total.share_tried_after, total.share_weak_after, total.share_waits_twice_after) == (1.0, 0.75, 0.25)
    assert (total.changed, total.no_answer) == (4, 0)


def test_discarded_answers_and_self_checks_cost(bundle: Bundle):
    prices, tokens = PairPrices.of(bundle.manifest.pair), -(-len(EASY) // 4)
    lengths = {"completion_tokens": 50}
    sure, unsure = (dataclasses.replace(one, **lengths) for one in (SURE, UNSURE))
    self_checked = dataclasses.replace(unsure, mean_logprob=None, self_check=-3.0)
    cost = prices.expected_costs(tokens, 50)
    question = prices.expected_costs(tokens + 50 + SELF_CHECK_TOKENS, 1)
    assert cost.weak_usd and cost.strong_usd and question.weak_usd  # noqa: PT018
    expected = {
        cost.weak_usd: sure,
        cost.weak_usd + cost.strong_usd: unsure,
        cost.weak_usd + question.weak_usd + cost.strong_usd: self_checked,
    }
    for usd, answer in expected.items():
        assert two_look_trial(bundle, [answered(1, answer)]).total.usd_per_1k_after == pytest.approx(1000 * usd)


def test_a_request_to_be_tried_whose_answer_the_log_lacks_is_counted_and_not_guessed(bundle: Bundle):
    records = [answered(1, SURE), answered(2, UNSURE), answered(3, None), answered(4, Response(score=1.0))]
    total = two_look_trial(bundle, records).total
    assert (total.requests, total.no_answer, total.share_tried_after) == (4, 2, 1.0)
    assert (total.share_weak_after, total.share_waits_twice_after) == (0.5, 0.5)
    unknown = two_look_trial(bundle, records[2:]).total
    assert (unknown.share_weak_after, unknown.share_waits_twice_after, unknown.usd_per_1k_after) == (None, None, None)


def test_callers_that_cannot_check_keep_the_figures_of_one_look(bundle: Bundle):
    records = [answered(1, SURE), answered(2, UNSURE), answered(3, None)]
    checked = with_second_look(bundle)
    two = try_rules(records, [checked], Rules(), Rules())
    one = try_rules(records, [bundle], Rules(), Rules())
    assert msgspec.to_builtins(two) == msgspec.to_builtins(one)
    assert (one.two_looks, one.total.share_tried_after, one.total.share_weak_after) == (False, 0.0, 1.0)


def test_an_empty_answer_is_escalated_and_a_ruled_request_is_never_tried(bundle: Bundle):
    records = [answered(1, Response(" ", mean_logprob=0.0)), answered(2, SURE, tenant="acme")]
    told = effects(two_look_trial(bundle, records, '[[rules]]\nname = "acme"\ntenants = ["acme"]\nroute = "weak"'))
    assert (told[""].share_weak_after, told[""].share_waits_twice_after) == (0.0, 1.0)
    assert (told["acme"].share_tried_after, told["acme"].share_weak_after, told["acme"].changed) == (0.0, 1.0, 1)


def test_a_session_goes_on_from_the_model_whose_answer_was_shown(bundle: Bundle):
    stays = "[session]\nstay_strong = true"
    for first, reasons in ((UNSURE, {"MODEL": 1, "SESSION": 1}), (SURE, {"MODEL": 2}), (None, {"MODEL": 2})):
        records = [answered(1, first, session_id="s"), answered(2, SURE, session_id="s")]
        assert two_look_trial(bundle, records, stays).total.reasons == reasons


def test_a_rule_by_threshold_and_a_policy_that_accepts_nothing_try_nothing(bundle: Bundle):
    threshold = two_look_trial(bundle, [answered(1, SURE)], '[[rules]]\nname = "t"\nthreshold = 0.5').total
    assert (threshold.share_tried_before, threshold.share_tried_after) == (1.0, 0.0)
    unmet = try_rules([answered(1, SURE)], [with_second_look(bundle, t_accept=NEVER)], Rules(), Rules(), can_check=True)
    assert (unmet.total.share_tried_after, unmet.total.share_weak_after) == (0.0, 0.0)


def test_what_both_models_answer_at_explorations_wish_costs_both(bundle: Bundle):
    found = two_look_trial(bundle, [answered(1, SURE)], "[exploration]\nboth = 1.0").total
    cost = PairPrices.of(bundle.manifest.pair).expected_costs(-(-len(EASY) // 4), None)
    assert cost.weak_usd and cost.strong_usd  # noqa: PT018
    assert found.share_waits_twice_after == 0.0
    assert found.usd_per_1k_after == pytest.approx(1000 * (cost.weak_usd + cost.strong_usd))


def test_two_looks_are_followed_where_there_is_a_second_look_and_an_answer_to_show_it(bundle: Bundle):
    checked = with_second_look(bundle)
    assert can_follow_two_looks([answered(1, None), answered(2, SURE)], [bundle, checked])
    assert not can_follow_two_looks([answered(1, None)], [checked])
    assert not can_follow_two_looks([answered(1, SURE)], [bundle])
