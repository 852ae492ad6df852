"""Reading the gateway log and the flat table in all their formats."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.log_builders import flat_row, gateway_row, user, write_bytes, write_log
from turnout.serving.bundles.manifest import Pair
from turnout.training.errors import DataRefused
from turnout.training.logs.read import ReadResult, read_records
from turnout.training.logs.reading import Reading
from turnout.training.logs.records import Record, Response

PAIR = Pair()


def read(*paths: Path, **columns: str) -> ReadResult:
    return read_records(paths, PAIR, Reading(columns))


def only(path: Path, **columns: str) -> Record:
    (row,) = read(path, **columns).rows
    assert isinstance(row, Record), row
    return row


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz", "log.jsonl.zst", "log"])
def test_gateway_log_is_read_plain_or_compressed(tmp_path: Path, name: str):
    answer = {"content": "Dust.", "score": 1, "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
    row = gateway_row("Why?", id="a", responses={"gpt-4o": answer}, task="chat", session_id=7, tenant="ignored")
    record = only(write_log(tmp_path / name, [row]))
    assert (record.id, record.prompt.text, record.user_text, record.task) == ("a", "Why?", "Why?", "chat")
    assert record.strong == Response("Dust.", 1.0, 7, 2)
    assert record.weak is None
    assert record.session_id == "7"


@pytest.mark.parametrize("name", ["table.jsonl", "table.csv", "table.csv.gz", "table.tsv", "table.parquet"])
def test_flat_table_is_read_in_any_format(tmp_path: Path, name: str):
    row = flat_row('Q: why,\n"oh" why?', question="why?", strong_score=1.0, weak_score=0.5, strong_response="x")
    row |= {"prompt_id": "007", "group_id": "g", "reference": "42", "source": "s", "created": 12.5}
    record = only(write_table(tmp_path / name, row))
    assert (record.prompt.text, record.user_text) == ('Q: why,\n"oh" why?', "why?")
    assert (record.strong, record.weak) == (Response("x", 1.0), Response(None, 0.5))
    assert (record.id, record.group_id, record.reference, record.created) == ("007", "g", "42", 12.5)


def write_table(path: Path, row: dict[str, object]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
        return path
    if path.suffix == ".jsonl":
        return write_log(path, [row])
    text = path.parent / "plain"
    with text.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerows([row.keys(), row.values()])
    return write_bytes(path, text.read_bytes())


@pytest.mark.parametrize("as_text", [False, True], ids=["nested", "json_text"])
def test_gateway_log_as_parquet_reads_like_jsonl(tmp_path: Path, as_text: bool):
    tools = [{"type": "function", "function": {"name": "f"}}]
    body = {"messages": [user("Why?")], "tools": tools, "response_format": {"type": "json_object"}}
    rows = [
        {"id": 1, "request": body, "responses": {"gpt-4o-mini": {"content": "m", "score": 0.0}}},
        {"id": 2, "request": body, "responses": {"gpt-4o": {"content": "s", "score": 1.0}}},
    ]
    if as_text:
        rows = [row | {name: json.dumps(row[name]) for name in ("request", "responses")} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    first, second = read(tmp_path / "log.parquet").records
    assert (first.id, first.strong, first.weak) == ("1", None, Response("m", 0.0))
    assert (second.id, second.strong, second.weak) == ("2", Response("s", 1.0), None)
    assert (first.prompt.tools, first.prompt.wants_json, second.line) == (1, True, 2)


def test_json_text_inside_a_json_line_is_unwrapped(tmp_path: Path):
    row = {"request": json.dumps({"messages": [user("Why?")]}), "responses": json.dumps({"gpt-4o": {"content": "x"}})}
    record = only(write_log(tmp_path / "log.jsonl", [row]))
    assert (record.prompt.text, record.strong) == ("Why?", Response("x"))


@pytest.mark.parametrize("row", [gateway_row("Why?"), flat_row("Why?"), {"messages": [user("Why?")]}])
def test_prompts_alone_are_read_without_answers(tmp_path: Path, row: dict[str, object]):
    record = only(write_log(tmp_path / "prompts.jsonl", [row]))
    assert (record.id, record.prompt.text) == ("prompts.jsonl:1", "Why?")
    assert (record.strong, record.weak) == (None, None)


def test_user_text_is_the_last_user_message_alone(tmp_path: Path):
    messages = [{"role": "system", "content": "Be brief."}, user("One?"), {"role": "assistant", "content": "1"}]
    parts = {"role": "user", "content": [{"type": "text", "text": "And two?"}]}
    record = only(write_log(tmp_path / "log.jsonl", [{"request": {"messages": [*messages, parts]}}]))
    assert record.user_text == "And two?"
    assert record.prompt.turns == 2
    assert "Be brief." in record.prompt.text


@pytest.mark.parametrize(
    ("logged", "tier"),
    [
        ("gpt-4o", "strong"),
        ("gpt-4o-2024-08-06", "strong"),
        ("gpt-4o-20240806", "strong"),
        ("gpt-4o-mini", "weak"),
        ("gpt-4o-mini-2024-07-18", "weak"),
        ("gpt-4o-audio", None),
        ("my-gpt-4o", None),
    ],
)
def test_dated_snapshots_answer_for_their_model_and_nothing_else_does(tmp_path: Path, logged: str, tier: str | None):
    record = only(write_log(tmp_path / "log.jsonl", [gateway_row(responses={logged: {"content": "x"}})]))
    assert {"strong": record.strong, "weak": record.weak} == dict.fromkeys(("strong", "weak")) | (
        {tier: Response("x")} if tier else {}
    )


def test_the_exact_name_goes_before_snapshots_and_the_latest_snapshot_before_older_ones(tmp_path: Path):
    snapshots = {"gpt-4o-2024-11-20": {"content": "new"}, "gpt-4o-2024-05-13": {"content": "old"}}
    path = write_log(
        tmp_path / "log.jsonl",
        [gateway_row(responses=snapshots), gateway_row(responses=snapshots | {"gpt-4o": {"content": "exact"}})],
    )
    assert [record.strong for record in read(path).records] == [Response("new"), Response("exact")]


def test_tool_calls_become_comparable_text(tmp_path: Path):
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"b": 1, "a": 2}'}}]
    row = gateway_row(responses={"gpt-4o": {"content": None, "tool_calls": calls}})
    record = only(write_log(tmp_path / "log.jsonl", [row]))
    assert record.strong == Response('[{"f":{"a":2,"b":1}}]')


@pytest.mark.parametrize(
    ("created", "seconds"),
    [(1767225600, 1767225600.0), (1767225600123, 1767225600.123), ("2026-01-01T00:00:00Z", 1767225600.0)],
)
def test_created_is_read_as_seconds(tmp_path: Path, created: object, seconds: float):
    assert only(write_log(tmp_path / "log.jsonl", [gateway_row(created=created)])).created == seconds


def test_a_preference_may_name_the_model(tmp_path: Path):
    rows = [gateway_row(preference=name) for name in ("tie", "weak", "gpt-4o-mini", "gpt-4o")]
    path = write_log(tmp_path / "log.jsonl", rows)
    assert [record.preference for record in read(path).records] == ["tie", "weak", "weak", "strong"]


def test_column_map_reads_other_names(tmp_path: Path):
    path = write_log(tmp_path / "t.jsonl", [{"query": "Why?", "big": 1, "small": 0, "prompt": "not this"}])
    record = only(path, prompt="query", strong_score="big", weak_score="small")
    assert (record.prompt.text, record.strong, record.weak) == ("Why?", Response(None, 1.0), Response(None, 0.0))


def test_column_map_turns_csv_cells_into_numbers(tmp_path: Path):
    record = only(write_bytes(tmp_path / "t.csv", b"q,big\nWhy?,0.5\n"), prompt="q", strong_score="big")
    assert record.strong == Response(None, 0.5)


def test_rows_keep_the_order_of_files_and_lines(tmp_path: Path):
    first = write_log(tmp_path / "b.jsonl", [gateway_row(id="1"), {"id": "2", "prompt": 5}, gateway_row(id="3")])
    second = write_log(tmp_path / "a.jsonl", [gateway_row(id="4")])
    result = read(first, second)
    assert [(row.id, row.line) for row in result.rows] == [("1", 1), ("2", 2), ("3", 3), ("4", 1)]
    assert [row.id for row in result.quarantine] == ["2"]


def test_progress_counts_up_to_all_rows(tmp_path: Path):
    path = write_log(tmp_path / "log.jsonl", [gateway_row()] * 2500)
    counts: list[int] = []
    read_records([path], PAIR, on_progress=counts.append)
    assert counts == [1000, 2000, 2500]


def test_unknown_columns_are_refused_by_name(tmp_path: Path):
    path = write_bytes(tmp_path / "t.csv", b"query,answer\nWhy?,Dust.\n")
    with pytest.raises(DataRefused, match=r"t\.csv: nothing to read a prompt from.*prompt.*found: query, answer"):
        read(path)


def test_a_column_map_that_names_no_column_is_refused(tmp_path: Path):
    path = write_log(tmp_path / "t.jsonl", [flat_row()])
    with pytest.raises(DataRefused, match="no column query as the column map says; found: prompt"):
        read(path, prompt="query")
    with pytest.raises(DataRefused, match="unknown field promt"):
        read(path, promt="prompt")


@pytest.mark.parametrize("name", ["absent.jsonl", "folder"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str):
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataRefused, match=f"{name}: cannot be read"):
        read(tmp_path / name)


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_real_log_and_table_are_read_whole(shared_data: Path):
    result = read(shared_data / "gateway-log.jsonl.gz", shared_data / "gpt-4o_gpt-4o-mini.parquet")
    assert not result.quarantine
    assert result.n_rows == 2757 + 20764
    assert all(record.strong and record.weak for record in result.records)
