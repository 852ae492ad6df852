"""Logs of every kind: read, or refused by name with what to type; an odd part costs that part alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.log_builders import gateway_row, user, write_log
from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.model_names import is_model
from turnout.training.errors import DataRefused
from turnout.training.logs.join import join_answers
from turnout.training.logs.quarantine import Reason
from turnout.training.logs.read import ReadResult, read_records
from turnout.training.logs.reading import JoinBy, Reading
from turnout.training.logs.records import Record
from turnout.training.logs.times import epoch_s

Row = dict[str, Any]
AT = 1793527200.0


def read(path: Path, **reading: Any) -> ReadResult:
    return read_records([path], Pair(), Reading(**reading))


def only(path: Path, **reading: Any) -> Record:
    (row,) = read(path, **reading).rows
    assert isinstance(row, Record), row
    return row


def said(text: str, *, mark: str = "value") -> Row:
    return {"key": mark, "value": {"stringValue": text}}


def spans(**attributes: str) -> Row:
    pairs = [{"key": name, "value": {"stringValue": value}} for name, value in attributes.items()]
    return {"resourceSpans": [{"scopeSpans": [{"spans": [{"spanId": "s", "attributes": pairs}]}]}]}


ASKED = {"model": "gpt-4o", "messages": [user("Why?")]}
CHAT = {"id": "c", "model": "gpt-4o-2024-08-06", "choices": [{"message": {"content": "Dust."}}]}
CHUNKS = [
    {"id": "c", "model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in ("Du", "st.")
]
EVENTS = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in CHUNKS) + "data: [DONE]\n\n"
RESPONSES = {"model": "gpt-4o", "output": [{"type": "message", "content": [{"type": "output_text", "text": "Dust."}]}]}
BLOCKS = [
    {"type": "message_start", "message": {"model": "gpt-4o", "role": "assistant", "content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    *({"type": "content_block_delta", "index": 0, "delta": {"text": piece}} for piece in ("Du", "st.")),
]
OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "gpt-4o",
    "llm.input_messages.0.message.role": "user",
    "llm.input_messages.0.message.content": "Why?",
    "llm.output_messages.0.message.role": "assistant",
    "llm.output_messages.0.message.content": "Dust.",
}
PHOENIX = {
    "openinference": {"span": {"kind": "LLM"}},
    "llm": {
        "model_name": "gpt-4o",
        "input_messages": [{"message": {"role": "user", "content": "Why?"}}],
        "output_messages": [{"message": {"role": "assistant", "content": "Dust."}}],
    },
}
AI_SDK = {
    "ai.operationId": "ai.streamText.doStream",
    "ai.model.id": "gpt-4o",
    "ai.prompt.messages": json.dumps([{"role": "user", "content": [{"type": "text", "text": "Why?"}]}]),
    "ai.response.text": "Dust.",
}
SAMPLE = {"id": 1, "epoch": 1, "input": "Why?", "target": "Dust.", "output": CHAT, "scores": {"m": {"value": "C"}}}
LOGS: dict[str, Row] = {
    "chat": {"request": ASKED, "response": CHAT},
    "responses": {"request": {"model": "gpt-4o", "input": "Why?"}, "response": RESPONSES},
    "chunk": {
        "request": ASKED,
        "response": {"id": "c", "model": "gpt-4o", "choices": [{"delta": {"content": "Dust."}}]},
    },
    "chunks": {"request": ASKED, "response": CHUNKS},
    "events": {"request": ASKED, "response": EVENTS},
    "blocks": {"request": ASKED, "response": BLOCKS},
    "portkey": {"request": {"body": ASKED}, "response": {"status": 200, "body": CHAT}, "ai_model": "gpt-4o"},
    "helicone": {"request_id": "r", "request_body": json.dumps(ASKED), "response_body": json.dumps(CHAT)},
    "openinference": spans(**OPENINFERENCE),
    "phoenix": {"context": {"span_id": "s"}, "span_kind": "LLM", "attributes": PHOENIX},
    "phoenix-dotted": {"context.span_id": "s", **{f"attributes.{name}": one for name, one in OPENINFERENCE.items()}},
    "ai-sdk": spans(**AI_SDK),
    "flat": {"model": "openai:gpt-4o", "prompt": "Why?", "completion": "Dust."},
    "inspect": {"eval": {"model": "openai/gpt-4o", "task": "t"}, "samples": [SAMPLE]},
    "promptfoo": {"provider": {"id": "openai:chat:gpt-4o"}, "prompt": {"raw": "Why?"}, "response": {"output": "Dust."}},
    "by-model-text": {"prompt": "Why?", "responses": {"gpt-4o": "Dust."}},
    "by-model-whole": {"prompt": "Why?", "responses": {"gpt-4o": CHAT}},
}


@pytest.mark.parametrize("row", LOGS.values(), ids=LOGS)
def test_a_row_of_any_kind_is_read(tmp_path: Path, row: Row):
    record = only(write_log(tmp_path / "log.jsonl", [row]))
    assert record.prompt.text.endswith("Why?")
    assert record.weak is None
    assert record.strong is not None
    assert record.strong.content == "Dust."


def test_lm_eval_names_the_model_in_its_folder_only(tmp_path: Path):
    folder = tmp_path / "openai__gpt-4o-mini"
    folder.mkdir()
    row = {"doc_id": 3, "arguments": [["Why?", {}]], "resps": [["Dust."]], "filter": "none", "exact_match": 1.0}
    record = only(write_log(folder / "samples_t.jsonl", [row]))
    assert record.weak is not None
    assert (record.weak.content, record.weak.score, record.strong) == ("Dust.", 1.0, None)


@pytest.mark.parametrize("winner", ["both_bad", "tie", "tie (bothbad)", "bothbad", "Tie (Both Bad)"])
def test_an_arena_row_that_prefers_neither_is_a_tie(tmp_path: Path, winner: str):
    said = [user("Why?"), {"role": "assistant", "content": "x"}]
    row = {
        "model_a": "gpt-4o",
        "model_b": "gpt-4o-mini",
        "winner": winner,
        "conversation_a": said,
        "conversation_b": said,
    }
    assert only(write_log(tmp_path / "log.jsonl", [row])).preference == "tie"


LOGPROBS = [{"logprob": -0.5}, {"logprob": -1.5}]


@pytest.mark.parametrize(
    "response",
    [
        CHAT
        | {
            "choices": [
                {"message": {"content": "a b"}, "logprobs": {"content": [{"logprob": -0.5}, {"logprob": -1.5}]}}
            ]
        },
        {"model": "gpt-4o", "choices": [{"text": "a b", "logprobs": {"token_logprobs": [-0.5, -1.5]}}]},
        {
            "model": "gpt-4o",
            "output": [
                {
                    "type": "message",
                    "content": [
                        {"type": "output_text", "text": "a", "logprobs": [{"logprob": -0.5}, {"logprob": -1.5}]}
                    ],
                }
            ],
        },
    ],
)
def test_log_probabilities_are_kept_wherever_they_stand(tmp_path: Path, response: Row):
    record = only(write_log(tmp_path / "log.jsonl", [{"request": ASKED, "response": response}]))
    assert record.strong is not None
    assert (record.strong.token_logprobs, record.strong.mean_logprob) == ((-0.5, -1.5), -1.0)


@pytest.mark.parametrize(
    "created",
    [
        *(AT, AT * 1e3, int(AT) * 10**6, int(AT) * 10**9, "1793527200", "1793527200000"),
        *("2026-11-01 10:00:00 UTC", "2026-11-01T12:00:00+02:00", "2026-11-01T10:00:00.000000000Z"),
        *("Sun, 01 Nov 2026 10:00:00 GMT", "01/Nov/2026:10:00:00 +0000", "Nov 1, 2026 10:00 AM"),
        *(
            {"$date": "2026-11-01T10:00:00Z"},
            {"seconds": 1793527200, "nanos": 0},
            datetime(2026, 11, 1, 10, tzinfo=UTC),
        ),
    ],
)
def test_a_time_in_any_form_is_the_same_moment(created: object):
    assert epoch_s(created) == AT


@pytest.mark.parametrize("created", ["yesterday", "03/04/2026", "2026-11-01 10:00:00 IST", {"a": 1}, True, 1e30])
def test_a_time_that_can_not_be_told_costs_the_time_alone(tmp_path: Path, created: object):
    record = only(write_log(tmp_path / "log.jsonl", [{"prompt": "Why?", "created": created, "task": ["x"], "id": 1.0}]))
    assert (record.created, record.task, record.id) == (None, None, "1")
    assert set(record.odd_fields) == {"created", "task"}


@pytest.mark.parametrize(
    ("logged", "is_strong"),
    [
        *((name, True) for name in ("openai:gpt-4o", "azure/gpt-4o", "gpt-4o@2024-08-06", "openai/gpt-4o:online")),
        *(
            (name, False)
            for name in ("ft:gpt-4o:org::1", "gpt-4o-audio-preview", "openai:gpt-4o-mini", "chatgpt-4o-latest")
        ),
    ],
)
def test_a_model_is_known_in_every_notation(logged: str, is_strong: bool):
    assert is_model(logged, "gpt-4o") is is_strong


ROWS = [{"id": f"r{number}", "prompt": "Why then?", "strong_score": 1, "weak_score": 0} for number in range(4)]


@pytest.mark.parametrize(
    "content",
    [
        "".join(json.dumps(row) for row in ROWS),
        "\n".join(json.dumps(row, indent=2) for row in ROWS),
        "\n".join(json.dumps(row | {"x": float("nan")}) for row in ROWS),
        "\n".join(json.dumps(row)[:-1] + ', "x": "\\ud800"}' for row in ROWS),
        "\n".join(map(repr, ROWS)),
    ],
    ids=["run together", "pretty", "nan", "surrogate", "python"],
)
@pytest.mark.parametrize("name", ["log.json", "log.jsonl"])
def test_what_is_nearly_json_lines_is_read(tmp_path: Path, name: str, content: str):
    path = tmp_path / name
    path.write_text(content)
    assert [record.id for record in read(path).records] == ["r0", "r1", "r2", "r3"]


@pytest.mark.parametrize("is_array", [False, True])
def test_a_log_that_is_cut_off_says_where(tmp_path: Path, is_array: bool):
    path = tmp_path / "log.json"
    whole = json.dumps(ROWS) if is_array else "\n".join(map(json.dumps, ROWS))
    path.write_text(whole[:-20])
    found = read(path)
    assert [record.id for record in found.records] == ["r0", "r1", "r2"]
    assert [row.reason for row in found.quarantine] == [Reason.TRUNCATED]
    assert any("cut off" in notice and "line 4" in notice for notice in found.notices)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_table_of_any_delimiter_and_encoding_is_read(tmp_path: Path, encoding: str, delimiter: str):
    path = tmp_path / "log.csv"
    lines = [["prompt", "strong_score", "weak_score"], ['"Warum, ach; warum? é"', "True", "0"]]
    path.write_bytes("\r\n".join(delimiter.join(cells) for cells in lines).encode(encoding))
    record = only(path)
    assert record.prompt.text == "Warum, ach; warum? é"
    assert (record.strong and record.strong.score, record.weak and record.weak.score) == (1.0, 0.0)


def test_a_table_that_is_not_utf8_is_refused_with_the_remedy(tmp_path: Path):
    path = tmp_path / "log.csv"
    path.write_bytes("prompt,strong_score,weak_score\né?,1,0\n".encode("cp1252"))
    with pytest.raises(DataRefused, match="UTF-8"):
        read(path).refuse_if_mostly_bad()


def test_binary_text_and_nanoseconds_in_parquet_are_text_and_times(tmp_path: Path):
    columns = {
        "prompt": pa.array([b"Why?"], pa.binary()),
        "created": pa.array([int(AT) * 10**9 + 1], pa.timestamp("ns", "UTC")),
        "key": pa.array([b"\xff" * 16], pa.binary(16)),
    }
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    record = only(tmp_path / "log.parquet")
    assert (record.prompt.text, record.created) == ("Why?", AT)


def test_an_unknown_table_is_told_the_column_with_the_requests(tmp_path: Path):
    rows = [{"key": f"key-{number}", "lang": "en", "what": "Which town lies east?"} for number in range(3)]
    path = write_log(tmp_path / "log.jsonl", rows)
    with pytest.raises(DataRefused, match="--column prompt=what"):
        read(path)
    with pytest.raises(DataRefused, match=r"holds ids, not prompts.*--column prompt=what"):
        read(path, columns={"prompt": "key"})


def test_rows_of_another_pair_are_read_for_their_prompts_alone(tmp_path: Path):
    row = {"prompt": "Why?", "strong_model": "a", "weak_model": "b"}
    found = read(write_log(tmp_path / "log.jsonl", [row, row]), prompts_only=True)
    assert [record.prompt.text for record in found.records] == ["Why?", "Why?"]
    assert found.other_pairs == {"a / b": 2}


def test_a_log_without_any_usable_row_is_refused_with_what_to_do(tmp_path: Path):
    row = spans(**{"openinference.span.kind": "EMBEDDING"})
    with pytest.raises(DataRefused, match=r"no row of 1 could be used \(not_chat 1\); .*LLM spans"):
        read(write_log(tmp_path / "log.jsonl", [row])).refuse_if_mostly_bad()


@pytest.mark.parametrize("text", ["2026-11-01" + " " * 100_000 + "x", "1" * 100_000, "January " * 10_000])
@pytest.mark.timeout(60)
def test_a_long_text_is_no_time_and_takes_none(text: str):
    with pytest.raises(ValueError, match="no time"):
        epoch_s(text)


def test_a_row_of_an_overlapping_export_counts_once(tmp_path: Path):
    rows = [
        {"id": f"{model}", "model": model, "prompt": "Why?", "response": "x"} for model in ("gpt-4o", "gpt-4o-mini")
    ]
    records = read(write_log(tmp_path / "log.jsonl", rows * 2)).records
    joined, n_merged = join_answers(records, JoinBy.PROMPT)
    assert (len(joined), n_merged) == (1, 3)


def test_a_row_with_both_answers_of_an_overlapping_export_counts_once(tmp_path: Path):
    row = gateway_row("Why?", id="1", responses={model: {"content": model} for model in ("gpt-4o", "gpt-4o-mini")})
    first, second = (write_log(tmp_path / name, [row]) for name in ("october.jsonl", "autumn.jsonl"))
    records = read_records([first, second], Pair()).records
    joined, n_merged = join_answers(records, JoinBy.PROMPT)
    assert ([one.file for one in joined], n_merged) == ([str(first)], 1)
    assert join_answers(records, JoinBy.NONE)[1] == 0


@pytest.mark.parametrize(
    "change",
    [{"id": "2"}, {"id": None}, {"preference": "weak"}, {"reference": "x"}],
    ids=["other id", "no id", "preference", "reference"],
)
def test_rows_with_both_answers_that_say_different_things_stay(tmp_path: Path, change: dict[str, object]):
    row = gateway_row("Why?", id="1", responses={model: {"content": "x"} for model in ("gpt-4o", "gpt-4o-mini")})
    changed = {name: value for name, value in (row | change).items() if value is not None}
    rows = [row, changed] if "id" in changed else [changed, changed]
    records = read(write_log(tmp_path / "log.jsonl", rows)).records
    assert join_answers(records, JoinBy.PROMPT) == (records, 0)


def test_a_pair_that_another_export_holds_whole_counts_once(tmp_path: Path):
    answers = {model: {"content": model} for model in ("gpt-4o", "gpt-4o-mini")}
    rows = [gateway_row("Why?", id="1", responses={model: said}) for model, said in answers.items()]
    records = read(write_log(tmp_path / "log.jsonl", [*rows, gateway_row("Why?", id="1", responses=answers)])).records
    assert len(records) == 3
    joined, n_merged = join_answers(records, JoinBy.PROMPT)
    assert ([one.line for one in joined], n_merged) == ([1], 2)


@pytest.mark.parametrize("field", [{"content": "half \ud800"}, {"content": "x", "prompt_tokens": 10**30}])
def test_a_repeated_row_with_an_odd_answer_counts_once(tmp_path: Path, field: dict[str, object]):
    row = gateway_row("Why?", id="1", responses={"gpt-4o": field, "gpt-4o-mini": {"content": "x"}})
    records = read(write_log(tmp_path / "log.jsonl", [row, row])).records
    assert join_answers(records, JoinBy.PROMPT)[1] == len(records) - 1
