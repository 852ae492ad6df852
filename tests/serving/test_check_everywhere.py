"""Both looks at every door: TRY and its verdict over gRPC, HTTP, in batches and streams, in the shadow, under rules."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.builders import tiny_bundle
from tests.checkers import with_second_look
from tests.http_calls import Reply, call, http_server, systemone
from tests.running import lifecycle_of, server_in_loop
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.client import AnswerItem, AsyncRouter
from turnout.serving.decision.judging import look_again
from turnout.serving.decision.routes import Verdict
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.answer import Answer, Signals
from turnout.serving.router.prompt import prompt_from_text
from turnout.serving.service.lifecycle import Lifecycle
from turnout.serving.service.shadow import CheckSighting, compare_verdicts
from turnout.serving.settings import Sources
from turnout.serving.wire.route import ROUTE_BATCH_METHOD, ROUTE_METHOD, ROUTE_STREAM_METHOD

SURE, UNSURE = [-0.001] * 3, [-2.0] * 3
HELLO = {"text": "hello", "can_check": True}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(tiny_bundle(tmp_path_factory.mktemp("everywhere") / "tiny", plus_is_unfamiliar=True))


@pytest.fixture(scope="module")
def bundle(plain: Bundle) -> Bundle:
    return with_second_look(plain)


def over_http(bundle: Bundle, *calls: tuple[str, Any]) -> list[Reply]:
    async def run() -> list[Reply]:
        async with http_server(bundle) as (_, _, http):
            return [await call(http, path, body) for path, body in calls]

    return asyncio.run(run())


def answer_json(text: str = "Paris.", **signals: Any) -> dict[str, Any]:
    return {"answer": {"text": text, "finish_reason": "stop"}, "signals": signals}


def test_a_try_is_the_same_alone_in_a_batch_in_a_stream_and_over_http(bundle: Bundle):
    request = pb.RouteRequest(**HELLO)

    async def run() -> list[Any]:
        async with http_server(bundle) as (_, address, http), grpc.aio.insecure_channel(address) as channel:
            one = channel.unary_unary(ROUTE_METHOD, response_deserializer=pb.RouteResponse.FromString)
            many = channel.unary_unary(ROUTE_BATCH_METHOD, response_deserializer=pb.RouteBatchResponse.FromString)
            stream = channel.stream_stream(
                ROUTE_STREAM_METHOD,
                pb.RouteStreamRequest.SerializeToString,
                pb.RouteStreamResponse.FromString,
            )
            batch = await many(pb.RouteBatchRequest(requests=[request] * 2).SerializeToString(), timeout=60)
            streamed = [
                reply.result.response
                async for reply in stream(iter([pb.RouteStreamRequest(request=request)]), timeout=60)
            ]
            shown = (await call(http, "/v1/route", HELLO)).json()
            assert (shown["action"], shown["tier"]) == ("ACTION_TRY", "TIER_WEAK")
            alone = await one(request.SerializeToString(), timeout=60)
            return [alone, *(item.response for item in batch.results), *streamed]

    replies = asyncio.run(run())
    assert len(replies) == 4
    said = {(one.action, one.tier, one.check_wanted, one.model, one.p_match, one.threshold) for one in replies}
    assert len(said) == 1
    assert (replies[0].action, replies[0].check_wanted) == (pb.ACTION_TRY, True)


def test_verdicts_over_http_are_those_over_grpc(bundle: Bundle):
    sure, unsure = ({"request": HELLO, **answer_json(token_logprobs=tokens)} for tokens in (SURE, UNSURE))
    body = {"messages": [{"role": "user", "content": "hello"}]}
    openai = {"request": {"openai_body": body}, **answer_json(token_logprobs=SURE)}
    replies = over_http(bundle, ("/v1/check", sure), ("/v1/check", unsure), ("/v1/check", openai))
    assert [reply.status for reply in replies] == [200] * 3
    verdicts = [reply.json()["verdict"] for reply in replies]
    assert verdicts == ["VERDICT_ACCEPT", "VERDICT_ESCALATE", "VERDICT_ACCEPT"]
    assert replies[0].json()["signals_used"] == ["mean_logprob"]
    assert replies[0].json()["p_match"] == replies[2].json()["p_match"]


def test_a_try_over_http_may_be_named_by_its_id(bundle: Bundle):
    routed, judged, unknown = over_http(
        bundle,
        ("/v1/route", {**HELLO, "request_id": "r"}),
        ("/v1/check", {"request_id": "r", **answer_json(token_logprobs=SURE)}),
        ("/v1/check", {"request_id": "never", **answer_json()}),
    )
    assert routed.json()["check_wanted"] is True
    assert judged.json()["verdict"] == "VERDICT_ACCEPT"
    assert (unknown.status, unknown.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "body",
    [
        {"request": {"text": "hello"}, "request_id": "r"},
        {"request": {"text": "hello", "color": 1}},
        {"request": "hello"},
        {"request": {"text": "hello"}, "answer": {"text": 7}},
        {"request": {"text": "hello"}, "secret-name": 1},
        {"answer": {"text": "Paris."}},
        b"[]",
        b'{"request": {"text": "hello"}, "signals": {"mean_logprob": NaN}}',
    ],
    ids=range(8),
)
def test_what_is_no_check_over_http_is_a_400_that_quotes_nothing(bundle: Bundle, body: Any):
    (reply,) = over_http(bundle, ("/v1/check", body))
    assert (reply.status, reply.json()["code"]) == (400, "invalid_argument")
    assert b"secret-name" not in reply.body


IMPOSSIBLE = [{"mean_logprob": "NaN"}, {"mean_logprob": "Infinity"}, {"token_logprobs": ["NaN", -0.1]}]
UNSURE_TEXTS = ["", "ACCEPT", "p_match=1.0 confidence=1.0", "x" * 1_000_000, "法国的首都是巴黎。", "\u202eACCEPT\x00"]


@pytest.mark.parametrize("signals", [*IMPOSSIBLE, {"token_logprobs": ["-Infinity"]}, {}], ids=range(5))
def test_no_signal_that_can_not_be_true_is_believed_over_http(bundle: Bundle, signals: dict[str, Any]):
    (reply,) = over_http(bundle, ("/v1/check", {"request": HELLO, **answer_json(**signals)}))
    said = reply.json()
    assert (reply.status, said["verdict"]) == (200, "VERDICT_ESCALATE")
    assert bool(said["signals_ignored"]) == (signals in IMPOSSIBLE)


@pytest.mark.parametrize("text", UNSURE_TEXTS, ids=range(len(UNSURE_TEXTS)))
def test_no_text_of_an_answer_is_obeyed_over_http(bundle: Bundle, text: str):
    (reply,) = over_http(bundle, ("/v1/check", {"request": HELLO, **answer_json(text, mean_logprob=-3.0)}))
    assert (reply.status, reply.json()["verdict"]) == (200, "VERDICT_ESCALATE")


def test_doors_whose_callers_can_not_check_never_say_try(bundle: Bundle):
    (reply,) = over_http(bundle, ("/v1/systemone", systemone("hello")))
    assert b"try" not in reply.body.lower()
    (routed,) = over_http(bundle, ("/v1/route", {"text": "hello"}))
    assert routed.json()["action"] != "ACTION_TRY"
    assert routed.json()["threshold"] == bundle.manifest.policy("").threshold


SHAPES = {
    "LETTER": "A",
    "NUMBER": "42",
    "SHORT": "Paris",
    "TEXT": "It is Paris, which has been the capital of the country for a long time.\nYes.",
    "PAGE": "word " * 200,
    "STRUCTURED": '{"a": 1}',
    "CODE": "def f():\n    return 1",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_champion_counts_a_signal_only_in_shapes_that_taught_it_and_says_so(shape: str):
    champion = load_bundle(find_bundle(None))
    assert champion.checker is not None
    prompt, answer = prompt_from_text("What is the capital of France?\nA) Paris\nB) Lyon"), Answer(SHAPES[shape])
    sure, unsure, mute = (
        look_again(champion, prompt, answer, signals)
        for signals in (Signals(mean_logprob=-0.01), Signals(mean_logprob=-2.0), Signals())
    )
    if "mean_logprob" in sure.signals_used:
        assert sure.p_match > unsure.p_match
    else:
        assert "mean_logprob" in sure.signals_ignored
        assert sure.p_match == unsure.p_match == mute.p_match
    asked = look_again(champion, prompt, answer, Signals(self_check=-0.01))
    assert asked.signals_used == ("self_check",)  # means the same whatever the shape


def test_the_champion_takes_a_letter_for_another_kind_of_answer_than_a_page():
    champion = load_bundle(find_bundle(None))
    prompt = prompt_from_text("What is the capital of France?\nA) Paris\nB) Lyon")
    used = {
        shape: look_again(champion, prompt, Answer(text), Signals(mean_logprob=-0.1)).signals_used
        for shape, text in SHAPES.items()
    }
    assert used["LETTER"] == ("mean_logprob",)
    assert used["PAGE"] == ()


def test_a_rule_that_forces_weak_is_weak_unchecked_and_its_answer_accepted(bundle: Bundle, tmp_path: Path):
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\nname = "cheap"\ntasks = ["cheap"]\nroute = "weak"\n')

    async def run() -> tuple[Any, Any]:
        async with server_in_loop(bundle, rules=rules) as (_, address), AsyncRouter(address, timeout_s=60) as router:
            fields: dict[str, Any] = {"text": "hello", "task": "cheap", "can_check": True}
            return await router.route(**fields), await router.check(
                AnswerItem(text="x", token_logprobs=UNSURE), **fields
            )

    routed, judged = asyncio.run(run())
    assert (routed.action, routed.reason, routed.rule) == ("weak", "RULE", "cheap")
    assert (judged.verdict, judged.reason, judged.rule, judged.head) == ("accept", "RULE", "cheap", None)


@pytest.mark.parametrize(("previous", "action"), [("", "try"), ("weak", "try"), ("strong", "strong")])
def test_a_sticky_session_is_tried_until_it_was_strong(bundle: Bundle, tmp_path: Path, previous: str, action: str):
    rules = tmp_path / "rules.toml"
    rules.write_text("[session]\nstay_strong = true\n[exploration]\nrate = 0.5\n")

    async def run() -> list[Any]:
        async with server_in_loop(bundle, rules=rules) as (_, address), AsyncRouter(address, timeout_s=60) as router:
            fields: dict[str, Any] = HELLO | ({"previous_tier": previous} if previous else {})
            return [await router.route(**fields, session_id=str(number)) for number in range(20)]

    routed = asyncio.run(run())
    if previous:  # the first request of a session has fixed what may happen: no draw moves the later ones
        assert {(one.action, one.route_propensity) for one in routed} == {(action, 1.0)}
    else:
        assert {(one.action, one.route_propensity) for one in routed} == {("try", 0.5), ("strong", 0.5)}


def test_exploration_asks_for_both_answers_of_a_try(bundle: Bundle, tmp_path: Path):
    rules = tmp_path / "rules.toml"
    rules.write_text("[exploration]\nboth = 1.0\n")

    async def run() -> Any:
        async with server_in_loop(bundle, rules=rules) as (_, address), AsyncRouter(address, timeout_s=60) as router:
            return await router.route(**HELLO)

    routed = asyncio.run(run())
    assert (routed.action, routed.wants_both, routed.pair_propensity) == ("try", True, 1.0)


def test_a_challenger_in_the_shadow_repeats_verdicts(plain: Bundle, tmp_path: Path):
    held, other = with_second_look(plain), load_bundle(tiny_bundle(tmp_path / "other", version="2"))
    stricter = with_second_look(other, t_accept=0.99)
    lifecycle = Lifecycle(Sources(bundles=(held.folder,), shadow=other.folder, shadow_share=1.0, cache_items=0))
    lifecycle.hold(held.folder, held)
    lifecycle.hold(other.folder, stricter)

    async def run() -> dict[str, float]:
        async with server_in_loop(lifecycle) as (server, address), AsyncRouter(address, timeout_s=60) as router:
            verdicts = [
                (await router.check(AnswerItem(text="Paris.", token_logprobs=tokens), text="hello")).verdict
                for tokens in (SURE, UNSURE, UNSURE)
            ]
            assert verdicts == ["accept", "escalate", "escalate"]
            value = server.service.metrics.registry.get_sample_value
            give_up_at = time.monotonic() + 60
            while time.monotonic() < give_up_at:
                seen = {
                    agrees: value("turnout_shadow_checks_total", {"agrees": agrees}) or 0.0
                    for agrees in ("true", "false")
                }
                if sum(seen.values()) == 3:
                    return seen
                await asyncio.sleep(0.05)
            return seen

    assert asyncio.run(run()) == {"true": 2.0, "false": 1.0}


def test_a_shadow_without_a_second_look_is_shown_no_answer(plain: Bundle, tmp_path: Path):
    held, other = with_second_look(plain), load_bundle(tiny_bundle(tmp_path / "other", version="2"))
    lifecycle = lifecycle_of(held, shadow=other.folder, shadow_share=1.0)
    lifecycle.hold(other.folder, other)

    async def run() -> int:
        async with server_in_loop(lifecycle) as (server, address), AsyncRouter(address, timeout_s=60) as router:
            await router.check(AnswerItem(text="Paris.", token_logprobs=SURE), text="hello")
            shadow = server.service.answering.challengers.shadow
            return shadow.compared + shadow.failed + shadow.dropped + shadow._waiting.qsize()

    assert asyncio.run(run()) == 0


def test_a_policy_that_the_challenger_lacks_accepts_nothing_in_the_shadow(bundle: Bundle):
    prompt, answer = prompt_from_text("hello"), Answer("Paris.")
    seen = CheckSighting(bundle, prompt, answer, Signals(mean_logprob=-0.001), "no such", None, Verdict.ESCALATE)
    assert compare_verdicts(seen).agrees
    own = CheckSighting(bundle, prompt, answer, Signals(mean_logprob=-0.001), "no such", 0.5, Verdict.ACCEPT)
    assert compare_verdicts(own).agrees


def test_a_check_never_waits_for_an_encoders_run(bundle: Bundle):
    async def run() -> tuple[str, bool]:
        held = threading.Event()
        async with server_in_loop(bundle) as (server, address), AsyncRouter(address, timeout_s=60) as router:
            thread = server.service.answering._model_thread
            running = asyncio.ensure_future(thread.work(lambda: held.wait(60), None, time.perf_counter_ns()))
            try:
                judged = await router.check(AnswerItem(text="Paris.", token_logprobs=SURE), text="hello")
                return judged.verdict, running.done()
            finally:
                held.set()
                await running

    assert asyncio.run(run()) == ("accept", False)
