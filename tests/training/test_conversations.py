"""Conversations: every assistant turn is one record, asked with the conversation so far and with its own answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.gateway_builders import (
    chat_attributes,
    completion,
    observation,
    openai_pair,
    otlp,
    parts,
    span,
    spend_log,
    text_part,
)
from tests.log_builders import gateway_row, user, write_log
from tests.training.pipelines import ledger_of
from turnout.serving.bundles.manifest import Pair
from turnout.training.dataset.dataset import load_dataset
from turnout.training.errors import DataRefused
from turnout.training.evaluation.slices import slice_all
from turnout.training.labels import label_records
from turnout.training.logs.read import ReadResult, read_records
from turnout.training.logs.records import Label, Record
from turnout.training.progress import Reporter

STRONG, WEAK = Pair().strong, Pair().weak
ASKED = ("How many crates?", "And on Monday?", "Who counted them?")
ANSWERED = ("Seven.", "9", "Ann did.")


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def so_far(n_turns: int) -> list[dict[str, str]]:
    """Return the messages of the request at a turn, counted from 1."""
    earlier = [message for ask, text in zip(ASKED, ANSWERED, strict=True) for message in (user(ask), assistant(text))]
    return earlier[: 2 * n_turns - 1]


def rendered(n_turns: int) -> str:
    messages = so_far(n_turns)
    if n_turns == 1:
        return ASKED[0]
    return "\n\n".join(f"{message['role']}:\n{message['content']}" for message in messages)


def read(tmp_path: Path, *rows: dict[str, Any]) -> ReadResult:
    return read_records([write_log(tmp_path / "log.jsonl", list(rows))], Pair())


def openai_session() -> list[dict[str, Any]]:
    rows = [openai_pair(text=text, session_id="s") for text in ANSWERED]
    for number, row in enumerate(rows, start=1):
        row["request"]["messages"] = so_far(number)
    return rows


def litellm_session() -> list[dict[str, Any]]:
    return [
        spend_log(proxy_server_request=json.dumps({"messages": so_far(number)}), response=json.dumps(completion(text)))
        for number, text in enumerate(ANSWERED, start=1)
    ]


def langfuse_session() -> list[dict[str, Any]]:
    return [
        observation(text=text, id=f"o{number}", input=so_far(number)) for number, text in enumerate(ANSWERED, start=1)
    ]


@pytest.mark.parametrize("session", [openai_session, litellm_session, langfuse_session])
def test_rows_of_a_session_are_its_turns_each_with_its_own_answer(tmp_path: Path, session: Any):
    records = read(tmp_path, *session()).records
    assert [record.prompt.text for record in records] == [rendered(number) for number in (1, 2, 3)]
    assert [record.prompt.turns for record in records] == [1, 2, 3]
    assert [record.strong.content for record in records] == list(ANSWERED)
    assert [record.user_text for record in records] == list(ASKED)
    assert len({record.session_id for record in records}) == 1


def conversation_row(*, with_content: bool = False, **fields: Any) -> dict[str, Any]:
    """Return three turns in one row: scored, referenced, and with nothing to tell by."""
    told = (
        {"responses": {STRONG: {"content": ANSWERED[0], "score": 1}, WEAK: {"content": "Two.", "score": 0}}},
        {"responses": {STRONG: {"content": ANSWERED[1]}, WEAK: {"content": "8"}}, "reference": "9"},
        {"responses": {STRONG: {"content": ANSWERED[2]}, WEAK: {"content": "Nobody knows."}}},
    )
    messages = list[dict[str, Any]]()
    for ask, said, turn in zip(ASKED, ANSWERED, told, strict=True):
        content = {"content": said} if with_content else {}
        messages += [user(ask), {"role": "assistant"} | content | turn]
    return {"id": "c", "task": "counting", "conversation": messages} | fields


@pytest.mark.parametrize("with_content", [True, False])
def test_one_row_with_answers_at_several_turns_is_a_record_a_turn(tmp_path: Path, *, with_content: bool):
    found = read(tmp_path, conversation_row(with_content=with_content), gateway_row())
    records = found.records
    assert [record.id for record in records[:3]] == ["c#1", "c#2", "c#3"]
    assert [(record.line, record.index) for record in records] == [(1, 0), (1, 1), (1, 2), (2, 0)]
    assert [record.prompt.text for record in records[:3]] == [rendered(number) for number in (1, 2, 3)]
    assert {(record.session_id, record.task) for record in records[:3]} == {("c", "counting")}
    assert [record.weak.content for record in records[:3]] == ["Two.", "8", "Nobody knows."]


def test_what_is_known_of_a_turn_is_said_of_no_other(tmp_path: Path):
    found = read(tmp_path, conversation_row())
    labelled = label_records(found.records)
    made = [one.labeller if isinstance(one, Label) else str(one) for one in labelled.decisions]
    assert made == ["scores", "reference:number", "undecided"]
    assert [record.reference for record in found.records] == [None, "9", None]
    ledger = ledger_of(found, labelled)
    assert ledger.is_exact
    assert ledger.rows == 3


def test_turns_after_an_answer_that_is_not_known_are_quarantined(tmp_path: Path):
    row = conversation_row()
    del row["conversation"][1]["responses"][STRONG]["content"]
    found = read(tmp_path, row)
    assert [record.id for record in found.records] == ["c#1"]
    assert found.rejected_by_reason == {"no_prompt": 2}
    assert found.n_rows == 3


def test_turns_of_a_conversation_without_an_id_stay_together(tmp_path: Path):
    row = conversation_row()
    del row["id"]
    other = conversation_row(task="other")
    del other["id"]
    other["conversation"][0]["content"] = "How many boxes?"
    records = read(tmp_path, row, other).records
    assert len({record.id for record in records}) == 6
    sessions = [record.session_id for record in records]
    assert sessions[:3] == sessions[:1] * 3 != sessions[3:]


def arena_row(winner: str = "model_a", models: tuple[str, str] = (WEAK, STRONG), **fields: Any) -> dict[str, Any]:
    said = {STRONG: ANSWERED[:2], WEAK: ("Two.", "Three.")}
    sides = {
        f"conversation_{side}": [
            message
            for ask, text in zip(ASKED[:2], said.get(model, ANSWERED[:2]), strict=True)
            for message in (user(ask), assistant(text))
        ]
        for side, model in zip("ab", models, strict=True)
    }
    named = dict(zip(("model_a", "model_b"), models, strict=True))
    return {"question_id": 81, "winner": winner} | named | sides | fields


@pytest.mark.parametrize(
    ("fields", "preferences"),
    [
        ({"turn": 1}, ["weak", None]),
        ({"turn": 2}, [None, "weak"]),
        ({}, [None, "weak"]),
        ({"winner": "model_b"}, [None, "strong"]),
        ({"winner": "tie (bothbad)"}, [None, "tie"]),
        ({"winner": "model_a", "models": (STRONG, WEAK)}, [None, "strong"]),
    ],
)
def test_winner_of_an_arena_row_counts_for_the_turn_that_was_judged(
    tmp_path: Path, fields: dict[str, Any], preferences: list[str | None]
):
    records = read(tmp_path, arena_row(**fields)).records
    assert [record.preference for record in records] == preferences
    assert [record.prompt.text for record in records] == [rendered(1), rendered(2)]
    assert [record.strong.content for record in records] == list(ANSWERED[:2])
    assert [record.weak.content for record in records] == ["Two.", "Three."]
    assert [(record.id, record.session_id) for record in records] == [("81#1", "81"), ("81#2", "81")]


def test_arena_rows_of_other_models_are_left_out(tmp_path: Path):
    found = read(tmp_path, arena_row(), arena_row(models=("vicuna", "koala")))
    assert found.rejected_by_reason == {"other_pair": 1}
    with pytest.raises(DataRefused, match="vicuna / koala"):
        read(tmp_path, arena_row(models=("vicuna", "koala")))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"conversation_b": [user("Something else?"), assistant("Yes.")]}, "ambiguous"),
        ({"winner": "nobody"}, "wrong_type"),
        ({"conversation_a": "text"}, "invalid_json"),
    ],
)
def test_arena_rows_that_make_no_sense_are_quarantined(tmp_path: Path, fields: dict[str, Any], reason: str):
    assert read(tmp_path, arena_row(), arena_row(**fields)).rejected_by_reason == {reason: 1}


def test_logs_of_both_models_pair_where_the_conversations_are_the_same(tmp_path: Path):
    answers = {STRONG: ANSWERED, WEAK: ("Two.", *ANSWERED[1:])}
    logs = list[Path]()
    for model, said in answers.items():
        rows = [
            openai_pair(text=text, model=model, id=f"{model} {number}", session_id=f"s of {model}")
            for number, text in enumerate(said, start=1)
        ]
        for number, row in enumerate(rows, start=1):
            row["request"]["messages"] = so_far(number)
            if number == 3:  # by then the weak model's caller has seen its own first answer
                row["request"]["messages"][1] = assistant(said[0])
        logs.append(write_log(tmp_path / f"{model}.jsonl", rows))
    records = read_records(logs, Pair()).joined("prompt").records
    assert [sides(record) for record in records] == [
        ("Seven.", "Two."),
        ("9", "9"),
        ("Ann did.", None),
        (None, "Ann did."),
    ]


def sides(record: Record) -> tuple[str | None, str | None]:
    return tuple(None if one is None else one.content for one in (record.strong, record.weak))


def test_spans_of_a_trace_are_its_turns(tmp_path: Path):
    asked = [
        json.dumps([parts(message["role"], text_part(message["content"])) for message in so_far(number)])
        for number in (1, 2, 3)
    ]
    spans = [
        span(chat_attributes(text=text, **{"gen_ai.input.messages": messages}))
        for text, messages in zip(ANSWERED, asked, strict=True)
    ]
    records = read(tmp_path, otlp(*spans)).records
    assert [record.prompt.text for record in records] == [rendered(number) for number in (1, 2, 3)]
    assert [(record.index, record.strong.content) for record in records] == list(enumerate(ANSWERED))
    assert len({record.session_id for record in records}) == 1


def test_slices_by_depth_see_the_turns_of_conversations(tmp_path: Path):
    rows = [conversation_row(id=f"c{number}") for number in range(4)] + [
        gateway_row(f"Is {number} odd?", id=str(number), responses={STRONG: {"score": 1}, WEAK: {"score": 1}})
        for number in range(5)
    ]
    data = load_dataset([write_log(tmp_path / "log.jsonl", rows)], Pair(), None, 0.0, Reporter(quiet=True)).dataset
    n = len(data.rows)
    outcomes = data.outcomes(np.arange(n), np.linspace(0.1, 0.9, n), np.ones(n, dtype=bool))
    found = slice_all(outcomes, threshold=None, seed=0, n_bootstraps=0)
    assert [(one.name, one.n) for one in found.turns] == [("1 turn", 9), ("2 turns", 4)]
    of_conversations = [data.groups.group[row] for row in range(n) if data.rows[row].record.session_id == "c0"]
    assert len(set(of_conversations)) == 1
