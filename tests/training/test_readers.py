"""Each gateway's rows: recognised without being told, and decoded into the same record."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import gateway_builders as build
from tests.log_builders import gateway_row, user, write_bytes, write_log
from turnout.serving.bundles.manifest import Pair
from turnout.training.errors import DataRefused
from turnout.training.logs.quarantine import Reason
from turnout.training.logs.read import ReadResult, read_records
from turnout.training.logs.reading import Reading
from turnout.training.logs.records import Record, Response

Row = dict[str, Any]


def read(*paths: Path, pair: Pair | None = None, **reading: Any) -> ReadResult:
    return read_records(paths, pair or Pair(), Reading(**reading))


def only(*paths: Path, **reading: Any) -> Record:
    (row,) = read(*paths, **reading).rows
    assert isinstance(row, Record), row
    return row


def logged(tmp_path: Path, *rows: Row, name: str = "log.jsonl") -> Path:
    return write_log(tmp_path / name, list(rows))


def reasons(result: ReadResult) -> list[str]:
    return [str(row.reason) for row in result.quarantine]


SINGLE_ANSWER = {
    "openai": build.openai_pair,
    "spend_log": build.spend_log,
    "logging_payload": build.logging_payload,
    "langfuse_api": build.observation,
    "langfuse_blob": build.blob_observation,
    "otel": lambda *given: build.otlp(build.span(build.chat_attributes(*given))),
}
each_gateway = pytest.mark.parametrize("build_row", SINGLE_ANSWER.values(), ids=SINGLE_ANSWER)


@each_gateway
@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz", "log.jsonl.bz2", "log.jsonl.xz", "log.json"])
def test_a_gateway_row_is_read_without_being_told_what_it_is(tmp_path: Path, build_row: Callable[..., Row], name: str):
    record = only(logged(tmp_path, build_row("Why?", "Dust.", "gpt-4o"), name=name))
    assert (record.prompt.text, record.user_text, record.weak) == ("Why?", "Why?", None)
    assert record.strong == Response("Dust.", None, 7, 2)
    assert record.created == build.STARTED_S


@each_gateway
def test_the_model_of_the_row_says_which_answer_it_is(tmp_path: Path, build_row: Callable[..., Row]):
    rows = [build_row("Why?", "x", model) for model in ("gpt-4o-mini", "gpt-4o", "gpt-4-turbo")]
    records = read(logged(tmp_path, *rows)).records
    assert [(bool(record.strong), bool(record.weak)) for record in records] == [
        (False, True),
        (True, False),
        (False, False),
    ]


@each_gateway
def test_a_json_array_reads_like_json_lines(tmp_path: Path, build_row: Callable[..., Row]):
    rows = [build_row(f"Question {number}?") for number in range(3)]
    path = write_bytes(tmp_path / "log.json.gz", json.dumps(rows, indent=2).encode())
    records = read(path).records
    assert [(record.line, record.prompt.text) for record in records] == [
        (number + 1, f"Question {number}?") for number in range(3)
    ]


@each_gateway
@pytest.mark.parametrize("damage", ["cut", "invalid_utf8"])
def test_a_damaged_row_costs_itself_alone(tmp_path: Path, build_row: Callable[..., Row], damage: str):
    good = json.dumps(build_row("Why?")).encode()
    bad = good[:-9] if damage == "cut" else good.replace(b"Why?", b"\xff\xff")
    result = read(write_bytes(tmp_path / "log.jsonl", b"\n".join([good, bad, good])))
    assert reasons(result) == ["invalid_json" if damage == "cut" else "invalid_utf8"]
    assert [record.line for record in result.records] == [1, 3]


WRONG = {
    "openai": (build.openai_pair, {"request": {"model": "gpt-4o", "messages": "hi"}}, Reason.WRONG_TYPE),
    "openai without model": (
        build.openai_pair,
        {"request": {"messages": [user("a")]}, "response": build.completion(model="")},
        Reason.NO_MODEL,
    ),
    "openai error": (build.openai_pair, {"response": {"error": {"message": "overloaded"}}}, Reason.FAILED),
    "openai no answer": (build.openai_pair, {"response": None}, Reason.FAILED),
    "spend embedding": (build.spend_log, {"call_type": "aembedding"}, Reason.NOT_CHAT),
    "spend failure": (build.spend_log, {"status": "failure"}, Reason.FAILED),
    "spend not stored": (build.spend_log, {"proxy_server_request": "{}", "response": "{}"}, Reason.NO_PROMPT),
    "spend damaged": (build.spend_log, {"proxy_server_request": '{"messages": ['}, Reason.INVALID_JSON),
    "spend type": (build.spend_log, {"response": '{"choices": 3}'}, Reason.WRONG_TYPE),
    "payload type": (build.logging_payload, {"messages": [{"content": "no role"}]}, Reason.WRONG_TYPE),
    "payload redacted": (build.logging_payload, {"messages": [user("redacted-by-litellm")]}, Reason.WITHHELD),
    "spend shortened": (
        build.spend_log,
        {"response": json.dumps(build.completion("a... (litellm_truncated skipped 9 chars. ) ...b"))},
        Reason.WITHHELD,
    ),
    "langfuse span": (build.observation, {"type": "SPAN"}, Reason.NOT_CHAT),
    "langfuse error": (build.observation, {"level": "ERROR"}, Reason.FAILED),
    "langfuse without input": (build.blob_observation, {"input": ""}, Reason.NO_PROMPT),
    "langfuse without model": (build.blob_observation, {"provided_model_name": ""}, Reason.NO_MODEL),
    "langfuse type": (build.observation, {"input": [{"role": 3, "content": "a"}]}, Reason.WRONG_TYPE),
}


@pytest.mark.parametrize(("build_row", "wrong", "reason"), WRONG.values(), ids=WRONG)
def test_a_row_that_is_no_use_is_quarantined_with_its_reason(
    tmp_path: Path, build_row: Callable[..., Row], wrong: Row, reason: Reason
):
    result = read(logged(tmp_path, build_row(), build_row(**wrong), build_row()))
    assert [(row.line, row.reason) for row in result.quarantine] == [(2, reason)]
    assert len(result.records) == 2


def test_rows_understood_and_left_out_do_not_condemn_the_log(tmp_path: Path):
    rows = [build.observation(), *[build.observation(type="SPAN")] * 9]
    result = read(logged(tmp_path, *rows))
    result.refuse_if_mostly_bad()
    assert result.rejected_by_reason == {Reason.NOT_CHAT: 9}
    with pytest.raises(DataRefused, match="2 of 3 rows"):
        read(
            logged(tmp_path, build.spend_log(), *[build.spend_log(proxy_server_request="{}")] * 2)
        ).refuse_if_mostly_bad()


def test_a_format_can_be_forced(tmp_path: Path):
    path = logged(tmp_path, build.observation("Why?", "Dust."))
    assert only(path, log_format="langfuse").prompt.text == "Why?"
    with pytest.raises(DataRefused, match="nothing to read a prompt from"):
        read(path, log_format="turnout")
    with pytest.raises(DataRefused, match=r"no log format 'unheard-of'; known are: auto, otel.*litellm"):
        read(path, log_format="unheard-of")


def test_files_of_several_formats_are_read_together(tmp_path: Path):
    rows = [gateway_row("Why?", id="a"), *(built("Why?") for built in SINGLE_ANSWER.values())]
    paths = [logged(tmp_path, row, name=f"{number}.jsonl") for number, row in enumerate(rows)]
    assert [record.prompt.text for record in read(*paths).records] == ["Why?"] * 7


def test_a_column_map_reaches_fields_that_the_format_does_not_use(tmp_path: Path):
    record = only(logged(tmp_path, build.spend_log()), columns={"task": "end_user", "id": "session_id"})
    assert (record.task, record.id) == ("u1", "s1")


def test_tools_json_and_tool_calls_of_a_pair_are_kept(tmp_path: Path):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    tools = [{"type": "function", "function": {"name": "f"}}]
    request = build.chat_request(tools=tools, response_format={"type": "json_object"})
    row = {"request": request, "response": build.completion(None, tool_calls=[call]), "task": "t"}
    record = only(logged(tmp_path, row))
    assert (record.prompt.tools, record.prompt.wants_json, record.task) == (1, True, "t")
    assert record.strong == Response('[{"f":{"a":1}}]', None, 7, 2)


def test_a_refusal_is_the_answer(tmp_path: Path):
    row = build.openai_pair() | {"response": build.completion(None, refusal="I can't.")}
    assert only(logged(tmp_path, row)).strong == Response("I can't.", None, 7, 2, is_refusal=True)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_spend_logs_as_a_table_read_like_json(tmp_path: Path, suffix: str):
    row, path = build.spend_log(), tmp_path / f"spend{suffix}"
    if suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([row.keys(), row.values()])
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    as_table, as_json = only(path), only(logged(tmp_path, row))
    assert (as_table.strong, as_table.prompt, as_table.created) == (as_json.strong, as_json.prompt, as_json.created)
    assert (as_table.id, as_table.session_id) == ("chatcmpl-1", "s1")


def test_the_alias_that_callers_use_names_the_model_before_the_provider_does(tmp_path: Path):
    row = build.spend_log() | {"model_group": "cheap", "model": "azure/deployment-7"}
    assert only(logged(tmp_path, row)).strong == Response("Dust.", None, 7, 2)
    pair = Pair(strong="gpt-4", weak="cheap")
    (record,) = read(logged(tmp_path, row), pair=pair).records
    assert (record.strong, record.weak) == (None, Response("Dust.", None, 7, 2))


def test_litellm_tools_are_found_where_each_log_keeps_them(tmp_path: Path):
    tools = [{"type": "function", "function": {"name": "f"}}]
    rows = [
        build.spend_log(proxy_server_request=json.dumps(build.chat_request(tools=tools))),
        build.spend_log(proxy_server_request=json.dumps({"body": build.chat_request(tools=tools)})),
        build.logging_payload(model_parameters={"tools": tools}),
    ]
    assert [record.prompt.tools for record in read(logged(tmp_path, *rows)).records] == [1, 1, 1]


LANGFUSE_INPUTS = [
    "Why?",
    user("Why?"),
    {"messages": [user("Why?")], "tools": []},
    json.dumps({"messages": [user("Why?")]}),
]


@pytest.mark.parametrize("given", LANGFUSE_INPUTS, ids=["text", "message", "body", "json_text"])
def test_langfuse_input_is_read_in_every_shape(tmp_path: Path, given: object):
    assert only(logged(tmp_path, build.observation(input=given))).prompt.text == "Why?"


LANGFUSE_OUTPUTS = ["Dust.", build.completion(), [{"role": "assistant", "content": "Dust."}], {"content": "Dust."}]


@pytest.mark.parametrize("given", LANGFUSE_OUTPUTS, ids=["text", "completion", "messages", "message"])
def test_langfuse_output_is_read_in_every_shape(tmp_path: Path, given: object):
    assert only(logged(tmp_path, build.observation(output=given))).strong == Response("Dust.", None, 7, 2)


def test_a_page_of_the_langfuse_api_holds_many_rows(tmp_path: Path):
    page = {"data": [build.observation("a"), build.observation(type=3), build.observation("b")], "meta": {"page": 1}}
    result = read(write_bytes(tmp_path / "page.json", json.dumps(page, indent=1).encode()))
    assert [(record.line, record.index, record.prompt.text) for record in result.records] == [(1, 0, "a"), (1, 2, "b")]
    assert [(row.line, row.index, row.reason) for row in result.quarantine] == [(1, 1, Reason.WRONG_TYPE)]


def test_every_span_of_a_line_is_a_row_with_a_place_of_its_own(tmp_path: Path):
    spans = [
        build.span(build.chat_attributes("a")),
        build.span({"http.request.method": "POST"}),
        build.span(build.chat_attributes("b"), status={"code": 2}),
        {"attributes": "none"},
        build.span(build.chat_attributes("c")),
    ]
    result = read(
        logged(tmp_path, build.otlp(*spans), build.otlp(), build.otlp(build.span(build.chat_attributes("d"))))
    )
    assert [(record.line, record.index, record.prompt.text) for record in result.records] == [
        (1, 0, "a"),
        (1, 4, "c"),
        (3, 0, "d"),
    ]
    assert [(row.line, row.index, row.reason) for row in result.quarantine] == [
        (1, 1, Reason.NOT_CHAT),
        (1, 2, Reason.FAILED),
        (1, 3, Reason.WRONG_TYPE),
        (2, 0, Reason.NOT_CHAT),
    ]
    assert result.n_rows == 7


def test_otel_parts_become_messages_tools_and_tool_calls(tmp_path: Path):
    call = {"type": "tool_call", "id": "c", "name": "f", "arguments": {"a": 1}}
    messages = [
        build.parts("user", build.text_part("Why?"), {"type": "uri", "modality": "image", "uri": "https://a.test/b"}),
        build.parts("assistant", {"type": "reasoning", "content": "hm"}, call),
        build.parts("tool", {"type": "tool_call_response", "id": "c", "response": {"r": 2}}),
    ]
    attributes = build.chat_attributes() | {
        "gen_ai.input.messages": messages,
        "gen_ai.output.messages": [build.parts("assistant", call)],
        "gen_ai.system_instructions": json.dumps([build.text_part("Be brief.")]),
        "gen_ai.tool.definitions": json.dumps([{"type": "function", "name": "f"}]),
        "gen_ai.output.type": "json",
        "gen_ai.conversation.id": "c9",
    }
    record = only(logged(tmp_path, build.otlp(build.span(attributes))))
    assert record.prompt.text == 'system:\nBe brief.\n\nuser:\nWhy?\n\ntool:\n{"r":2}'
    assert (record.prompt.images, record.prompt.tools, record.prompt.wants_json) == (1, 1, True)
    assert record.strong == Response('[{"f":{"a":1}}]', None, 7, 2)
    assert record.session_id == "c9"


def bare_attributes(**more: Any) -> Row:
    return {
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.prompt_tokens": 7,
        "gen_ai.usage.completion_tokens": 2,
    } | more


OLDER_SPANS = {
    "numbered attributes": build.span(
        bare_attributes(
            **{
                "gen_ai.prompt.0.role": "user",
                "gen_ai.prompt.0.content": "Why?",
                "gen_ai.completion.0.role": "assistant",
                "gen_ai.completion.0.content": "Dust.",
            }
        )
    ),
    "message events": build.span(
        bare_attributes(),
        [
            build.event("gen_ai.user.message", {"content": "Why?"}),
            build.event("gen_ai.choice", {"message": json.dumps({"content": "Dust."})}),
        ],
    ),
    "content events": build.span(
        bare_attributes(),
        [
            build.event("gen_ai.content.prompt", {"gen_ai.prompt": json.dumps([user("Why?")])}),
            build.event(
                "gen_ai.content.completion",
                {"gen_ai.completion": json.dumps([{"role": "assistant", "content": "Dust."}])},
            ),
        ],
    ),
    "details event": build.span(
        bare_attributes(),
        [
            build.event(
                "gen_ai.client.inference.operation.details",
                {
                    "gen_ai.input.messages": [build.parts("user", build.text_part("Why?"))],
                    "gen_ai.output.messages": [build.parts("assistant", build.text_part("Dust."))],
                },
            )
        ],
    ),
}


@pytest.mark.parametrize("span", OLDER_SPANS.values(), ids=OLDER_SPANS)
def test_otel_messages_are_read_wherever_instrumentations_put_them(tmp_path: Path, span: Row):
    record = only(logged(tmp_path, build.otlp(span)))
    assert (record.prompt.text, record.strong) == ("Why?", Response("Dust.", None, 7, 2))


def test_a_span_without_captured_messages_has_no_prompt(tmp_path: Path):
    assert reasons(read(logged(tmp_path, build.otlp(build.span(bare_attributes()))))) == ["no_prompt"]


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | st.sampled_from(["{", "[]", "[1]"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["role", "content", "values"]), inner),
    max_leaves=4,
)
ROWS = {
    "openai": build.openai_pair(),
    "litellm": build.spend_log(),
    "payload": build.logging_payload(),
    "langfuse": build.observation(),
    "score": build.langfuse_score("o1", 1.0),
    "page": {"data": [build.observation()], "meta": {}},
    "otel": build.otlp(build.span(build.chat_attributes(), [build.event("gen_ai.choice", {"content": "a"})])),
    "batch_in": build.batch_input("1"),
    "batch_out": build.batch_output("1"),
    "routerbench": build.routerbench_row(gpt_4o=1.0, gpt_4o_mini=0.0),
    "routellm": {"prompt": "Why?", "gpt-4o": True, "gpt-4o-mini": False},
    "pair_table": {"prompt": "Why?", "strong_model": "gpt-4o", "weak_model": "gpt-4o-mini", "strong_score": 1.0},
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside a row."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, one in inner for found in ((*path, key), *places(one, (*path, key)))]


def spoiled(row: Row, path: tuple[Any, ...], value: Any) -> Row:
    copy = json.loads(json.dumps(row))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_spoiled_value_makes_a_reader_raise_or_lose_a_row(tmp_path: Path, row: Row, data: st.DataObject):
    bad = spoiled(row, data.draw(st.sampled_from(places(row))), data.draw(json_values))
    result = read(logged(tmp_path, row, bad, row, row))
    assert result.n_rows == len(result.records) + len(result.quarantine) + result.n_merged
    assert result.n_rows >= 4
    if not row.keys() & {"custom_id", "value"}:  # parts of a request suffer with their counterpart
        assert {bad.line for bad in result.quarantine} <= {2}
