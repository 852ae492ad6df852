"""A ladder of three over gRPC: who answers, where an answer is escalated to, what rules may say, what the log keeps."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest

from tests.builders import LADDER_NAMES
from tests.checkers import with_second_look
from tests.running import server_in_loop
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.policy import NEVER
from turnout.serving.cli.route import route_locally
from turnout.serving.client import AnswerItem, AsyncRouter, Routed
from turnout.serving.decision.decision import decide, threshold_policy
from turnout.serving.decision.prices import OWN_LIST
from turnout.serving.errors import UnknownName
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.prompt import prompt_from_text
from turnout.serving.spool.check import decode_check
from turnout.serving.spool.decision import DecisionRecord, LogDecisions, decode_decision
from turnout.serving.spool.framing import RecordKind
from turnout.serving.spool.outcome import decode_outcome
from turnout.serving.spool.reader import SpoolRecord, read_spool
from turnout.serving.wire.route import DESCRIBE_MODEL_METHOD

SHORT, MIDDLE, LONG, STRANGE = "hello", "word " * 20, "word " * 400, "a + b"
SURE, UNSURE = [-0.001] * 3, [-2.0] * 3
MINI, FULL, TOP = LADDER_NAMES
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}


@pytest.fixture(autouse=True)
def prices_of_three(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give o3 a price: those of the others are shipped."""
    own = tmp_path_factory.getbasetemp() / "own-prices.toml"
    own.write_text('[[prices]]\nmodel = "o3"\nsince = 2025-04-16\ninput = 10.00\noutput = 40.00\n')
    monkeypatch.setenv(OWN_LIST, str(own))


@pytest.fixture(scope="module")
def ladder(ladder_bundle_folder: Path) -> Bundle:
    return load_bundle(ladder_bundle_folder)


@pytest.fixture(scope="module")
def checking(ladder: Bundle) -> Bundle:
    """Return the ladder with a second look, under which what is escalated needs p of 0.8 for the rung between."""
    return with_second_look(ladder, t_rungs=(0.8,))


def served(bundle: Bundle, ask: Callable[[Any, AsyncRouter], Coroutine[Any, Any, Any]], **settings: Any) -> Any:
    async def run() -> Any:
        async with (
            server_in_loop(bundle, **settings) as (server, address),
            AsyncRouter(address, timeout_s=60, strong_model=TOP) as router,
        ):
            return await ask(server, router)

    return asyncio.run(run())


def routed(bundle: Bundle, *items: dict[str, Any], rules: str = "", tmp_path: Path | None = None) -> list[Routed]:
    settings: dict[str, Any] = {}
    if tmp_path is not None:
        (tmp_path / "rules.toml").write_text(rules)
        settings["rules"] = tmp_path / "rules.toml"

    async def ask(_: Any, router: AsyncRouter) -> list[Routed]:
        return [await router.route(**item) for item in items]

    found: list[Routed] = served(bundle, ask, **settings)
    assert [one.fallback_reason for one in found] == [None] * len(items)
    return found


def test_each_rung_answers_what_its_p_allows_and_the_top_the_rest(ladder: Bundle):
    found = routed(ladder, *({"text": text} for text in (SHORT, MIDDLE, LONG, STRANGE)))
    assert [one.rung for one in found] == [MINI, FULL, TOP, TOP]
    assert [(one.model, one.effort) for one in found] == [(MINI, ""), (FULL, ""), ("o3", "high"), ("o3", "high")]
    assert [one.tier for one in found] == ["weak", "between", "strong", "strong"]
    assert [one.action for one in found] == ["weak", "strong", "strong", "strong"]
    assert [one.reason for one in found] == ["MODEL"] * 3 + ["OUT_OF_DISTRIBUTION"]
    assert all(one.p_rungs == () for one in found)
    between = found[1]
    assert between.confidence is not None
    assert between.confidence >= 0.8 > between.p_match


def test_p_threshold_and_cost_of_each_rung_come_on_request_and_the_cache_changes_nothing(ladder: Bundle):
    item = {"text": MIDDLE, "per_rung": True}
    one, again = routed(ladder, item, item)
    assert one.p_rungs == again.p_rungs
    assert [look.rung for look in one.p_rungs] == list(LADDER_NAMES)
    assert [look.is_offered for look in one.p_rungs] == [True] * 3
    assert [look.threshold for look in one.p_rungs] == pytest.approx([0.75, 0.8, None])
    mini, full, top = one.p_rungs
    assert ladder.rung_heads is not None
    expected = ladder.rung_heads.p_rungs(ladder.model.featurize(prompt_from_text(MIDDLE)))
    assert (mini.p, full.p, top.p) == (one.p_match, pytest.approx(expected[0]), None)
    assert mini.cost_usd == one.weak_cost_usd < full.cost_usd < top.cost_usd == one.strong_cost_usd


def test_a_pair_says_the_same_of_its_two(bundle: Bundle):
    (one,) = routed(bundle, {"text": SHORT, "per_rung": True})
    assert (one.rung, one.effort, one.tier) == ("gpt-4o-mini", "", "weak")
    assert [(look.p, look.threshold) for look in one.p_rungs] == [(one.p_match, one.threshold), (None, None)]


def test_quality_is_another_name_of_a_promise_for_ladders_and_pairs(ladder: Bundle, bundle: Bundle):
    loose, strict = routed(
        ladder, {"text": MIDDLE, "policy": "quality=0.94"}, {"text": MIDDLE, "policy": "quality=0.998"}
    )
    assert (loose.policy, loose.rung) == ("max_worse=0.06", MINI)  # the path's second place: 0.5 and 0.6
    assert (strict.policy, strict.rung) == ("max_worse=0.002", TOP)
    assert ladder.manifest.policy("quality=0.94") == ladder.manifest.policy("max_worse=0.06")
    assert bundle.manifest.policy("quality=0.95") is bundle.manifest.policy("max_worse=0.05")
    for name in ("quality=0.9", "quality=1", "quality=nan", "quality=0.99999", "quality="):
        with pytest.raises(UnknownName):
            bundle.manifest.policy(name)


def test_a_plain_threshold_holds_for_every_rung(ladder: Bundle):
    prompt = prompt_from_text(MIDDLE)
    rungs = [decide(ladder, prompt, threshold_policy(threshold)).rung for threshold in (0.5, 0.8, 0.95)]
    assert rungs == [MINI, FULL, TOP]


def test_what_is_tried_climbs_to_the_cheapest_rung_that_is_allowed(checking: Bundle):
    async def ask(_: Any, router: AsyncRouter) -> Any:
        found = {}
        for text in (MIDDLE, LONG[:200], STRANGE):
            item = {"text": text, "can_check": True, "request_id": text[:20] + str(len(text)), "per_rung": True}
            first = await router.route(**item)
            remembered = await router.check(
                AnswerItem(text="Paris.", token_logprobs=UNSURE), request_id=item["request_id"]
            )
            sent = await router.check(AnswerItem(text="Paris.", token_logprobs=UNSURE), first, **item)
            empty = await router.check(AnswerItem(text=""), first, **item)
            sure = await router.check(AnswerItem(text="Paris.", token_logprobs=SURE), first, **item)
            found[text] = first, remembered, sent, empty, sure
        return found

    found = served(checking, ask)
    for text, rung, tier in ((MIDDLE, FULL, "between"), (LONG[:200], TOP, "strong"), (STRANGE, TOP, "strong")):
        first, *judged, sure = found[text]
        assert (first.action, first.rung) == ("try", MINI)
        assert [(one.verdict, one.rung, one.tier) for one in judged] == [("escalate", rung, tier)] * 3
        assert [one.reason for one in judged] == ["MODEL", "MODEL", "NO_ANSWER"]
        assert (sure.verdict, sure.model, sure.tier, sure.p_rungs) == ("accept", MINI, "weak", ())
        assert [look.rung for look in judged[1].p_rungs] == [FULL, TOP]
        look = judged[1].p_rungs[0 if rung == FULL else 1]
        assert judged[1].escalate_cost_usd == pytest.approx(look.cost_usd)
        assert judged[1].accept_cost_usd < judged[1].escalate_cost_usd


def test_without_thresholds_for_rungs_nothing_climbs_but_to_the_top(ladder: Bundle):
    async def ask(_: Any, router: AsyncRouter) -> Any:
        return await router.check(AnswerItem(text="Paris.", token_logprobs=UNSURE), text=MIDDLE)

    assert served(with_second_look(ladder), ask).rung == TOP
    assert served(with_second_look(ladder, t_rungs=(NEVER,)), ask).rung == TOP


RULES = """
images = "model"
[models."o3"]
images = false
[models."gpt-4o-mini"]
images = false
tools = false
[[rules]]
name = "drafts"
tasks = ["draft"]
rung = "gpt-4o"
[[rules]]
name = "no top"
tenants = ["thrifty"]
allow = ["gpt-4o*"]
[[rules]]
name = "ends"
tenants = ["ends"]
allow = ["gpt-4o-mini", "o3"]
"""


def test_rules_name_rungs_allow_some_and_rule_out_what_cant(ladder: Bundle, tmp_path: Path):
    content = [{"type": "text", "text": SHORT}, IMAGE]
    with_image = {"messages": [{"role": "user", "content": content}]}
    tool = {"type": "function", "function": {"name": "now", "parameters": {}}}
    with_tools = {
        "openai_body": msgspec.json.encode({"messages": [{"role": "user", "content": SHORT}], "tools": [tool]})
    }
    found = routed(
        ladder,
        {"text": LONG, "task": "draft"},
        {"text": LONG, "tenant": "thrifty"},
        {"text": MIDDLE, "tenant": "ends"},
        {"text": SHORT, "tenant": "ends"},
        with_image,
        {**with_image, "tenant": "ends", "per_rung": True},
        with_tools,
        rules=RULES,
        tmp_path=tmp_path,
    )
    assert [(one.rung, one.reason) for one in found] == [
        (FULL, "RULE"),
        (FULL, "RULE"),
        (TOP, "RULE"),
        (MINI, "MODEL"),
        (FULL, "CAPABILITY"),
        (TOP, "CAPABILITY"),  # nothing is left: the caller learns it from the top
        (FULL, "CAPABILITY"),
    ]
    assert [look.is_offered for look in found[5].p_rungs] == [False, False, False]
    assert found[0].p_match is None


def test_a_pair_has_limits_too(bundle: Bundle, tmp_path: Path):
    rules = '[models."gpt-4o-mini"]\nmax_estimated_tokens = 220\n[models."gpt-4o"]\nscripts = ["Latin"]\n'
    short, longer, greek = routed(
        bundle,
        {"text": SHORT},
        {"text": SHORT * 20, "threshold": 0.0},
        {"text": "Γιατί " * 4, "threshold": 1.0},
        rules=rules,
        tmp_path=tmp_path,
    )
    assert [(one.tier, one.reason) for one in (short, longer, greek)] == [
        ("weak", "MODEL"),
        ("strong", "TOO_LONG"),
        ("weak", "CAPABILITY"),
    ]


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ('[[rules]]\nname = "a"\nrung = "o4"', "rules[0].rung ('a'): expected a rung of bundle ladder/1"),
        ('[[rules]]\nname = "a"\nallow = ["gpt-5*"]', "rules[0].allow ('a'): expected rungs of bundle ladder/1"),
    ],
)
def test_a_rule_over_rungs_that_the_bundle_has_not_is_refused(ladder: Bundle, rules: str, says: str, tmp_path: Path):
    with pytest.raises(Exception, match="expected") as refused:
        routed(ladder, rules=rules, tmp_path=tmp_path)
    assert says in str(refused.value)


def test_exploration_moves_over_rungs_and_the_log_says_how_probably(ladder: Bundle, tmp_path: Path):
    (tmp_path / "rules.toml").write_text('salt = "x"\n[exploration]\nrate = 0.4\nboth = 0.5\n')

    async def ask(_: Any, router: AsyncRouter) -> list[Routed]:
        return [await router.route(text=MIDDLE, request_id=str(n)) for n in range(200)]

    settings = {"rules": tmp_path / "rules.toml", "spool": tmp_path / "spool", "log_decisions": LogDecisions.FULL}
    found: list[Routed] = served(ladder, ask, **settings)
    shares = {MINI: 0.2, FULL: 0.6, TOP: 0.2}
    taken = Counter(one.rung for one in found)
    assert all(abs(taken[rung] / 200 - share) < 0.12 for rung, share in shares.items())
    assert all(one.route_propensity == pytest.approx(shares[one.rung]) for one in found)
    both = [one for one in found if one.wants_both]
    assert 60 < len(both) < 140
    assert {TOP in (one.rung, one.other_rung) for one in both} == {True}
    assert {one.other_rung for one in both if one.rung == TOP} == {MINI, FULL}
    expected = {MINI: 0.5 * (0.2 + 0.2 / 2), FULL: 0.5 * (0.6 + 0.2 / 2)}
    for one in both:
        lower = one.other_rung if one.rung == TOP else one.rung
        assert one.pair_propensity == pytest.approx(expected[lower])
    records = {record.request_id: record for record in decisions_in(tmp_path / "spool")}
    for number, one in enumerate(found):
        record = records[str(number)]
        assert (record.rung, record.route_propensity) == (one.rung, one.route_propensity)
        assert (record.rungs, record.other_rung) == (LADDER_NAMES, one.other_rung)
        assert record.route == ("weak" if one.rung == MINI else "strong")
        assert len(record.p_rungs) == len(record.t_rungs) == 1
        assert len(record.usd_rungs) == 3
        assert record.other_model == (one.other_model or ("o3" if one.rung == MINI else "gpt-4o-mini"))


def decisions_in(folder: Path) -> list[DecisionRecord]:
    records = (one for one in read_spool(folder) if isinstance(one, SpoolRecord))
    return [decode_decision(one.payload) for one in records if one.kind == RecordKind.DECISION]


class OldRecord(msgspec.Struct):
    """What a reader from before ladders knows of a decision, as far as it matters here."""

    route: str
    model: str
    other_model: str = ""
    p_match: float | None = None


def test_older_readers_pass_over_rungs_and_logs_of_pairs_hold_none(ladder: Bundle, bundle: Bundle, tmp_path: Path):
    async def ask(_: Any, router: AsyncRouter) -> Any:
        await router.route(text=MIDDLE, request_id="r")

    payloads = []
    for number, one in enumerate((ladder, bundle)):
        served(one, ask, spool=tmp_path / str(number), log_decisions=LogDecisions.FULL)
        payloads += [record.payload for record in read_spool(tmp_path / str(number)) if isinstance(record, SpoolRecord)]
    old = msgspec.msgpack.decode(payloads[0], type=OldRecord)
    assert (old.route, old.model, old.other_model) == ("strong", FULL, MINI)
    assert (
        not {"rung", "rungs", "p_rungs", "t_rungs", "usd_rungs", "other_rung"}
        & msgspec.msgpack.decode(payloads[1]).keys()
    )


def test_verdicts_and_outcomes_name_the_rung(checking: Bundle, tmp_path: Path):
    async def ask(_: Any, router: AsyncRouter) -> Any:
        first = await router.route(text=LONG[:200], can_check=True, request_id="r")
        await router.check(AnswerItem(text="Paris.", token_logprobs=UNSURE), first, text=LONG[:200], request_id="r")
        return await router.report_outcome("r", timeout_s=60, model="o3", rung=TOP, score=1.0, tier="strong")

    assert served(checking, ask, spool=tmp_path, log_decisions=LogDecisions.FULL)
    records = [one for one in read_spool(tmp_path) if isinstance(one, SpoolRecord)]
    (check,) = (decode_check(one.payload) for one in records if one.kind == RecordKind.CHECK)
    (outcome,) = (decode_outcome(one.payload) for one in records if one.kind == RecordKind.OUTCOME)
    assert (check.model, check.rung) == ("o3", TOP)
    assert (outcome.model, outcome.rung) == ("o3", TOP)


def test_a_session_between_is_named_by_its_rung(ladder: Bundle):
    warm = {"previous_rung": FULL, "previous_tier": "between", "cached_tokens": 5000, "per_rung": True}
    cold, kept, gone = routed(
        ladder,
        {"text": LONG, "threshold": 0.0, "per_rung": True},
        {"text": LONG, "threshold": 0.0, **warm},
        {"text": LONG, "threshold": 0.0, "previous_rung": "of another bundle"},
    )
    assert (cold.rung, kept.rung, gone.rung) == (MINI, MINI, MINI)  # even warm, gpt-4o costs more than the mini
    assert kept.p_rungs[1].cost_usd < cold.p_rungs[1].cost_usd
    assert kept.p_rungs[0].cost_usd == cold.p_rungs[0].cost_usd


def test_describe_model_lists_the_ladder(ladder: Bundle):
    async def run() -> Any:
        async with server_in_loop(ladder) as (_, address), grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(DESCRIBE_MODEL_METHOD, response_deserializer=pb.DescribeModelResponse.FromString)
            return await call(b"", timeout=60)

    said = asyncio.run(run())
    assert [(rung.name, rung.model, rung.effort) for rung in said.ladder] == [
        (MINI, MINI, ""),
        (FULL, FULL, ""),
        (TOP, "o3", "high"),
    ]
    assert list(said.policies[0].t_rungs) == pytest.approx([0.8])
    assert list(said.policies[0].checked.t_rungs) == pytest.approx([0.8])


def test_decisions_are_counted_by_rung(ladder: Bundle):
    async def ask(server: Any, router: AsyncRouter) -> Any:
        for text in (SHORT, MIDDLE, MIDDLE, LONG):
            await router.route(text=text)
        value = server.service.metrics.registry.get_sample_value
        return [value("turnout_rung_decisions_total", {"bundle": "ladder/1", "rung": rung}) for rung in LADDER_NAMES]

    assert served(ladder, ask) == [1, 2, 1]


def test_a_caller_of_before_sends_what_a_rung_between_gets_to_the_strong_model():
    old = pb.RouteResponse(model=FULL, tier=pb.TIER_UNSPECIFIED)
    router = AsyncRouter("127.0.0.1:1", strong_model=TOP)
    assert router._routed(old, 0.0).fallback_reason == "bad_response"
    assert (router._routed(old, 0.0).model, router._routed(old, 0.0).effort) == ("o3", "high")


def test_turnout_route_shows_p_of_each_rung(ladder_bundle_folder: Path):
    asked = {"policy": "", "threshold": None, "early_exit": True}
    line = route_locally(ladder_bundle_folder, MIDDLE, **asked, as_json=False)
    assert line.startswith("gpt-4o (between)  p_match 0.641 < 0.750")
    assert line.endswith("rungs gpt-4o-mini 0.641 < 0.750, gpt-4o 0.843 >= 0.800")
    said = msgspec.json.decode(route_locally(ladder_bundle_folder, LONG, **asked, as_json=True))
    assert (said["rung"], said["model"], said["effort"], said["tier"]) == (TOP, "o3", "high", "strong")
