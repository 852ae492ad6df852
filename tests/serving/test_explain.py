"""An explanation says what the model would say without each part, and its parts cover the prompt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.running import route
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.explain import MAX_PARTS, contributions, parts_of
from turnout.serving.router.prompt import prompt_from_text


@given(st.text(alphabet="ab .!?\n。", max_size=300))
def test_parts_cover_the_text_in_order(text: str):
    parts = parts_of(text)
    assert "".join(text[start:end] for start, end in parts) == text
    assert all(start < end for start, end in parts)
    assert len(parts) <= MAX_PARTS


def test_parts_are_sentences_and_lines():
    text = "You are careful. Is 17 prime?\nAnswer in one word"
    assert [text[start:end] for start, end in parts_of(text)] == [
        "You are careful. ",
        "Is 17 prime?\n",
        "Answer in one word",
    ]


def test_contribution_is_the_answer_to_the_prompt_without_the_part(bundle: Bundle):
    prompt = prompt_from_text("Hello there. Write a word. Then another word!")
    found = contributions(prompt, parts_of(prompt.text), lambda asked: bundle.model.predict(asked, 0.5).p_match)
    for part in found:
        rest = prompt_from_text(prompt.text[: part.start] + prompt.text[part.end :])
        assert part.p_match_without == bundle.model.predict(rest, 0.5).p_match


def test_reply_explains_only_when_asked(server):
    text = "Hello there. Write a word."
    assert list(route(server.address, text=text).contributions) == []
    reply = route(server.address, text=text, explain=True)
    assert [(part.start, part.end) for part in reply.contributions] == parts_of(text)
    without = route(server.address, text=text[reply.contributions[0].end :], threshold=reply.threshold)
    assert reply.contributions[0].p_match_without == pytest.approx(without.p_match)


def test_explaining_an_image_without_text_is_no_fault(server):
    body = b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}'
    reply = route(server.address, openai_body=body, explain=True)
    assert (reply.reason, list(reply.contributions)) == (pb.REASON_RULE, [])
