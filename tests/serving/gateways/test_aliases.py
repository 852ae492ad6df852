"""Names that stand for the router, and what of a chat call is sent to it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.serving.gateways.aliases import Alias, alias_of
from turnout.serving.gateways.chat import routing_body
from turnout.serving.router.prompt import prompt_from_json


@pytest.mark.parametrize(
    ("model", "alias"),
    [
        ("auto", Alias()),
        ("turnout-max_worse=0.05", Alias(policy="max_worse=0.05")),
        ("turnout-threshold=0.9", Alias(threshold=0.9)),
        ("turnout-threshold=high", Alias(policy="threshold=high")),
        ("router-mf-0.2", Alias(threshold=0.8)),
        ("router-bert-.25", Alias(threshold=0.75)),
        ("router-my-bundle-0.5", Alias(threshold=0.5, bundle="my-bundle")),
        ("gpt-4o", None),
        ("gpt-4o-mini", None),
        ("router-mf", None),
        ("autopilot", None),
        (None, None),
        (7, None),
    ],
)
def test_alias_asks_for_what_its_name_says(model: Any, alias: Alias | None):
    assert alias_of(model) == alias


@given(st.integers(0, 1000))
def test_routellm_threshold_is_one_minus_ours(thousandths: int):
    theirs = thousandths / 1000
    assert alias_of(f"router-mf-{theirs:.3f}") == Alias(threshold=1.0 - theirs)


@given(st.text())
def test_any_name_is_an_alias_or_none(name: str):
    found = alias_of(name)
    assert found is None or isinstance(found, Alias)


SYSTEM, QUESTION = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10_000}}
TOOL = {"type": "function", "function": {"name": "secret_name", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    "call",
    [
        {"messages": [SYSTEM, QUESTION]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Why?"}, PICTURE, PICTURE]}]},
        {"messages": [QUESTION], "tools": [TOOL, TOOL]},
        {"messages": [QUESTION], "response_format": {"type": "json_schema", "json_schema": {"name": "answer"}}},
        {"messages": [QUESTION, {"role": "assistant", "content": None, "tool_calls": [{}]}, QUESTION]},
        {"messages": [QUESTION], "tools": None, "response_format": None},
    ],
    ids=["system", "pictures", "tools", "schema", "tool call", "nothing else"],
)
def test_router_sees_the_same_prompt_in_fewer_bytes(call: dict[str, Any]):
    secret = {"api_key": "sk-secret", "metadata": {"user": "Ada"}}
    sent = routing_body(call | secret)
    assert prompt_from_json(sent) == prompt_from_json(msgspec.json.encode(call))
    assert not any(word in sent for word in (b"sk-secret", b"Ada", b"AAAA", b"secret_name"))


@pytest.mark.parametrize(
    "call",
    [
        {"input": "Why?", "instructions": "Be brief."},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "A" * 9000}]}]},
        {"prompt": "Once upon a time"},
        {"system": [{"type": "text", "text": "Be brief."}], "messages": [QUESTION]},
        {"messages": [QUESTION], "modalities": ["text", "audio"], "audio": {"voice": "a"}},
        {"messages": [{"role": "user", "content": [{"type": "hologram", "data": "AAAA"}]}]},
        {"input": "Go on.", "previous_response_id": "resp_1"},
    ],
    ids=["responses", "file", "completions", "messages", "sound asked for", "unknown", "stored"],
)
def test_router_sees_the_same_prompt_of_any_shape(call: dict[str, Any]):
    sent = routing_body(call)
    assert prompt_from_json(sent) == prompt_from_json(msgspec.json.encode(call))
    assert b"AAAA" not in sent


def test_call_of_no_shape_is_refused():
    with pytest.raises(ValueError, match="none of the fields"):
        routing_body({"file": "x"})
