"""Rendering: from every shape of request to the one text that is read in training and in serving."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.serving.errors import InvalidRequest
from turnout.serving.router.prompt import Prompt, clean_text, prompt_from_json, prompt_from_text

SECRET = "Mrs Smith of 12 Acacia Avenue"


def message(content: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": content}


def rendered(*messages: dict[str, Any], **fields: Any) -> Prompt:
    return prompt_from_json(json.dumps({"model": "gpt-4o", "messages": messages, **fields}).encode())


def text_part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


@given(st.text())
def test_one_user_message_renders_to_its_own_text(text: str):
    assert rendered(message(text)) == prompt_from_text(text) == Prompt(text)


@given(st.text(st.characters(exclude_categories=()), max_size=50))
def test_any_text_becomes_valid_unicode(text: str):
    prompt = prompt_from_text(text)
    assert prompt.text.encode("utf-8").decode("utf-8") == prompt.text
    assert len(prompt.text) == len(text)


@pytest.mark.parametrize(("text", "cleaned"), [("\ud800", "?"), ("a\udfffb", "a?b"), ("é🚆", "é🚆"), ("", "")])
def test_lone_surrogates_become_question_marks(text: str, cleaned: str):
    assert clean_text(text) == cleaned


def test_conversation_renders_every_turn_under_its_role():
    prompt = rendered(message("Be brief.", "system"), message("Hi"), message("Hello!", "assistant"), message("Why?"))
    assert prompt.text == "system:\nBe brief.\n\nuser:\nHi\n\nassistant:\nHello!\n\nuser:\nWhy?"
    assert prompt.turns == 2


def test_turns_without_text_are_left_out():
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    prompt = rendered(message("Hi"), called, message("  \n", "tool"), message("And?"))
    assert prompt.text == "user:\nHi\n\nuser:\nAnd?"


def test_parts_of_a_message_are_joined_by_line_breaks_and_images_counted():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    prompt = rendered(message([text_part("Look:"), image, {"type": "input_image"}, text_part("What is it?")]))
    assert prompt == Prompt("Look:\nWhat is it?", images=2)


@pytest.mark.parametrize("content", [None, "", [], [{"type": "image"}], [text_part("")]])
def test_message_without_text_is_empty_and_no_error(content: Any):
    prompt = rendered(message(content))
    assert prompt.is_empty
    assert prompt.images == (1 if content and content[0]["type"] == "image" else 0)


def test_tools_and_json_output_are_counted_and_not_rendered():
    tools = [{"type": "function", "function": {"name": "book", "parameters": {"x": [1, {}]}}}] * 3
    prompt = rendered(message("Hi"), tools=tools, response_format={"type": "json_schema", "json_schema": {}})
    assert prompt == Prompt("Hi", tools=3, wants_json=True, extra_tokens=prompt.extra_tokens)
    assert prompt.extra_tokens == pytest.approx(3 * len(json.dumps(tools[0], separators=(",", ":"))) / 4, abs=3)


@pytest.mark.parametrize(
    ("response_format", "wants_json"),
    [({"type": "json_object"}, True), ({"type": "json_schema"}, True), ({"type": "text"}, False), (None, False)],
)
def test_json_is_wanted_where_the_format_says_so(response_format: dict | None, *, wants_json: bool):
    assert rendered(message("Hi"), response_format=response_format).wants_json is wants_json


def test_unknown_fields_are_ignored():
    assert rendered(message("Hi") | {"name": "ann", "cache": {}}, stream=True, seed=3) == Prompt("Hi")


def test_body_without_messages_is_an_empty_prompt():
    prompt = rendered()
    assert prompt.is_empty
    assert prompt.turns == 1


@pytest.mark.parametrize(("text", "is_empty"), [("", True), (" \n\t\u2003", True), (".", False), ("\0", False)])
def test_only_white_space_is_empty(text: str, *, is_empty: bool):
    assert Prompt(text).is_empty is is_empty


@pytest.mark.parametrize(
    "body",
    [
        b"",
        f'{{"messages": [{{"role": "user", "content": "{SECRET}"'.encode(),
        json.dumps({"messages": SECRET}).encode(),
        json.dumps({"messages": [SECRET]}).encode(),
        json.dumps({"messages": [{"role": 3, "content": SECRET}]}).encode(),
        json.dumps({"messages": [{"content": SECRET}]}).encode(),
        json.dumps({"messages": [message({"text": SECRET})]}).encode(),
        json.dumps({"messages": [message(SECRET)], "tools": SECRET}).encode(),
        json.dumps({"messages": [message(SECRET)], "response_format": SECRET}).encode(),
        json.dumps([message(SECRET)]).encode(),
        json.dumps(SECRET).encode(),
        SECRET.encode(),
        f'{{"messages": [{{"role": "user", "content": "{SECRET}'.encode() + b'\xff"}]}',
        b'{"messages": ' + b"[" * 100_000,
    ],
    ids=range(14),
)
def test_bad_body_is_an_invalid_request_that_quotes_nothing(body: bytes):
    with pytest.raises(InvalidRequest, match="openai_body is not a chat") as refused:
        prompt_from_json(body)
    assert not any(word in str(refused.value) for word in SECRET.split() if len(word) > 2)
    assert refused.value.__cause__ is None
