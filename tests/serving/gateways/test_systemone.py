"""The contract of LiteLLM's classifiers: which label the decision becomes, and what of `state` the model reads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import tiny_bundle
from tests.http_calls import HttpProcess, call, http_server, systemone
from tests.running import route
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.protocols.http.systemone import request_of, weak_and_strong
from turnout.serving.service.lifecycle import Lifecycle
from turnout.serving.settings import Sources

PAIR = ("gpt-4o-mini", "gpt-4o")
WEAK, STRONG = "hello", "word " * 60


def state_of(question: str, system: str | None = None, *blocks: str) -> str:
    """Return the state that LiteLLM 1.106 builds."""
    parts = [] if system is None else ["\nCaller system prompt, quoted as task context:", system]
    return "\n".join([*parts, *blocks, f"\nClassify this message:\n{question}"])


def asked_for(state: str) -> tuple[str, list[tuple[str, str]]]:
    request = pb.RouteRequest.FromString(request_of(state))
    return request.text, [(message.role, message.text) for message in request.messages.messages]


def answer(process: HttpProcess, state: str, **options: Any) -> dict[str, Any]:
    reply = process.call("/v1/systemone", systemone(state, **options))
    assert reply.status == 200, reply.body
    return reply.json()["answers"]["tier"]


@pytest.mark.parametrize("question", [WEAK, STRONG])
def test_answer_is_the_decision_of_route(http_process: HttpProcess, question: str):
    decision = route(http_process.grpc, text=question)
    told = answer(http_process, state_of(question))
    assert told == {
        "type": "choice",
        "choice": {pb.TIER_WEAK: "weak", pb.TIER_STRONG: "strong"}[decision.tier],
        "probabilities": {"weak": decision.p_match, "strong": 1.0 - decision.p_match},
        "confidence": decision.confidence,
    }


def test_both_tiers_are_seen_in_this_file(http_process: HttpProcess):
    assert {answer(http_process, state_of(question))["choice"] for question in (WEAK, STRONG)} == {"weak", "strong"}


def test_decision_without_a_model_has_no_probabilities_and_is_certain(http_process: HttpProcess):
    told = answer(http_process, state_of("x" * 400_000))
    assert told == {"type": "choice", "choice": "strong", "probabilities": {}, "confidence": 1.0}


def test_every_question_is_answered_in_its_own_labels(http_process: HttpProcess):
    other = {"type": "choice", "criteria": {"SIMPLE": "short", "MEDIUM": "longer", "COMPLEX": "hard"}}
    reply = http_process.call("/v1/systemone", systemone(state_of(STRONG), complexity=other)).json()
    assert {name: told["choice"] for name, told in reply["answers"].items()} == {
        "tier": "strong",
        "complexity": "COMPLEX",
    }
    assert reply["model"] == "tiny/1"


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["SIMPLE", "MEDIUM", "COMPLEX", "REASONING"], ("SIMPLE", "REASONING")),
        (["strong", "weak"], ("weak", "strong")),
        (["Strong", "middle", "Weak"], ("Weak", "Strong")),
        (["gpt-4o", "gpt-4o-mini"], ("gpt-4o-mini", "gpt-4o")),
        (["weak", "other"], ("weak", "other")),
    ],
)
def test_labels_are_taken_by_name_else_in_ascending_order(labels: list[str], expected: tuple[str, str]):
    assert weak_and_strong(labels, PAIR) == expected


@pytest.mark.parametrize(
    "body",
    [
        {"state": "hello"},
        {"state": 1, "questions": {"tier": {"criteria": {"a": "", "b": ""}}}},
        {"state": "hello", "questions": {}},
        {"state": "hello", "questions": {"tier": {"criteria": {"only": "one"}}}},
        {"state": "hello", "questions": {"tier": {"type": "scale", "criteria": {"a": "", "b": ""}}}},
        systemone("  "),
    ],
    ids=range(6),
)
def test_what_can_not_be_answered_is_refused(http_process: HttpProcess, body: dict[str, Any]):
    reply = http_process.call("/v1/systemone", body)
    assert (reply.status, reply.json()["code"]) == (400, "invalid_argument")


def test_a_canary_of_another_ladder_is_answered_in_its_own_rungs(ladder_bundle_folder: Path, tmp_path: Path):
    pair = tiny_bundle(tmp_path / "pair")
    sources = Sources(bundles=(pair,), canary=ladder_bundle_folder, canary_share=1.0, allow_other_pair=True)
    labels = ("SIMPLE", "MEDIUM", "COMPLEX")

    async def run() -> list[tuple[str, float]]:
        async with http_server(Lifecycle(sources)) as (_, _, http):
            told = []
            for text in (WEAK, "word " * 20, "word " * 400):
                reply = await call(http, "/v1/systemone", systemone(state_of(text), labels))
                answered = reply.json()["answers"]["tier"]
                told.append((answered["choice"], sum(answered["probabilities"].values())))
            return told

    assert asyncio.run(run()) == [(label, pytest.approx(1.0)) for label in labels]


def test_state_of_litellm_is_taken_apart():
    assert asked_for(state_of("Why?")) == ("Why?", [])
    assert asked_for(state_of("Why?", "Be brief.")) == ("", [("system", "Be brief."), ("user", "Why?")])
    turns = "\nRecent conversation (context only, do not classify these):\n[1] hello"
    depth = "\nConversation so far: ~12 tokens across the request"
    assert asked_for(state_of("Why?", "Be\n\nbrief.", turns, depth)) == (
        "",
        [("system", "Be\n\nbrief."), ("user", "Why?")],
    )
    assert asked_for(state_of("Why?", None, turns, depth)) == ("Why?", [])


def test_question_that_quotes_the_heading_stays_whole():
    quoting = "Explain this:\nClassify this message:\nnow"
    assert asked_for(state_of(quoting)) == (quoting, [])


def test_state_of_another_caller_is_one_message():
    assert asked_for("Why is the sky blue?") == ("Why is the sky blue?", [])


@given(st.text())
def test_any_question_comes_through_as_it_was(question: str):
    readable = question.encode("utf-8", "replace").decode()
    assert asked_for(state_of(question))[0] == readable
