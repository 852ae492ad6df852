"""What `Route` answers to good requests."""

from __future__ import annotations

import json

import pytest

from tests.builders import BUNDLE_ID, DEFAULT_POLICY
from tests.running import ServerProcess, route
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.decision.decision import decide
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.prompt import prompt_from_text

SHORT = "hello the word"
LONG = "word " * 90


def test_short_prompt_goes_weak(server: ServerProcess):
    reply = route(server.address, text=SHORT)
    assert (reply.tier, reply.model, reply.reason) == (pb.TIER_WEAK, "gpt-4o-mini", pb.REASON_MODEL)
    assert reply.confidence == reply.p_match >= reply.threshold


def test_long_prompt_goes_strong(server: ServerProcess):
    reply = route(server.address, text=LONG)
    assert (reply.tier, reply.model, reply.reason) == (pb.TIER_STRONG, "gpt-4o", pb.REASON_MODEL)
    assert reply.p_match < reply.threshold
    assert reply.confidence == pytest.approx(1 - reply.p_match)


@pytest.mark.parametrize("text", [SHORT, LONG, "why?", "word " * 20, "Ünïcode \U0001f682 עברית"])
def test_answer_is_that_of_the_bundle_in_process(server: ServerProcess, bundle: Bundle, text: str):
    expected = decide(bundle, prompt_from_text(text), bundle.manifest.policy(""))
    reply = route(server.address, text=text)
    assert reply.p_match == pytest.approx(expected.p_match, abs=1e-6)
    assert reply.model == expected.model
    assert pb.Stage.Name(reply.stage) == f"STAGE_{expected.stage}"


def test_request_id_policy_and_bundle_come_back(server: ServerProcess):
    reply = route(server.address, text=SHORT, request_id="r-\N{SNOWMAN}")
    assert (reply.request_id, reply.policy, reply.bundle) == ("r-\N{SNOWMAN}", DEFAULT_POLICY, BUNDLE_ID)
    assert reply.timings.decode_ns >= 0
    assert reply.timings.queue_ns >= 0
    assert reply.timings.model_ns > 0


def test_text_messages_and_body_of_one_user_message_agree(server: ServerProcess):
    message = pb.Message(role="user", text=LONG)
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": LONG}]}).encode()
    replies = [
        route(server.address, text=LONG),
        route(server.address, messages=pb.Messages(messages=[message])),
        route(server.address, messages=pb.Messages(messages=[pb.Message(text=LONG)])),
        route(server.address, openai_body=body),
    ]
    assert len({reply.p_match for reply in replies}) == 1


def test_named_policy_sets_the_threshold(server: ServerProcess):
    reply = route(server.address, text=SHORT, policy="max_worse=0.05")
    assert (reply.policy, reply.threshold) == ("max_worse=0.05", 0.5)


@pytest.mark.parametrize(("threshold", "tier"), [(0.0, pb.TIER_WEAK), (1.0, pb.TIER_STRONG)])
def test_threshold_of_the_caller_overrides_the_policy(server: ServerProcess, threshold: float, tier: int):
    reply = route(server.address, text=SHORT, threshold=threshold)
    assert (reply.tier, reply.threshold, reply.policy) == (tier, threshold, f"threshold={threshold:g}")


@pytest.mark.parametrize("name", ["tiny", "tiny/1"])
def test_bundle_served_answers_to_its_name(server: ServerProcess, name: str):
    assert route(server.address, text=SHORT, bundle=name).bundle == BUNDLE_ID


def assert_strong_without_the_model(reply: pb.RouteResponse, reason: int) -> None:
    assert (reply.tier, reply.model, reply.reason) == (pb.TIER_STRONG, "gpt-4o", reason)
    assert not reply.HasField("p_match")
    assert not reply.HasField("confidence")
    assert reply.stage == pb.STAGE_UNSPECIFIED


def test_over_fifty_thousand_tokens_goes_strong(server: ServerProcess):
    assert_strong_without_the_model(route(server.address, text="word " * 40_001), pb.REASON_TOO_LONG)


def test_image_without_text_goes_strong(server: ServerProcess):
    parts = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    body = json.dumps({"messages": [{"role": "user", "content": parts}]}).encode()
    assert_strong_without_the_model(route(server.address, openai_body=body), pb.REASON_RULE)


def test_tools_without_text_go_strong(server: ServerProcess):
    body = json.dumps({"messages": [], "tools": [{"type": "function"}]}).encode()
    assert_strong_without_the_model(route(server.address, openai_body=body), pb.REASON_RULE)
