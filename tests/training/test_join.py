"""Two rows with one model's answer each become one record, in any order and from any gateways."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import gateway_builders as build
from tests.log_builders import gateway_row, record, user, write_log
from turnout.serving.bundles.manifest import Pair
from turnout.training.labels import label_records
from turnout.training.logs.join import KEY, join_answers
from turnout.training.logs.read import read_records
from turnout.training.logs.reading import JoinBy
from turnout.training.logs.records import Record


def answers(records: list[Record]) -> list[tuple[str | None, str | None]]:
    return [(one.strong and one.strong.content, one.weak and one.weak.content) for one in records]


def test_logs_of_each_model_join_by_prompt_whichever_comes_first(tmp_path: Path):
    strong = write_log(tmp_path / "s.jsonl", [build.spend_log("Why?", "Dust."), build.spend_log("How?", "So.")])
    weak = write_log(
        tmp_path / "w.jsonl",
        [build.observation("Who?", "I.", "gpt-4o-mini"), build.observation("Why?", "Air.", "gpt-4o-mini")],
    )
    for paths in permutations([strong, weak]):
        read = read_records(paths, Pair())
        result = read.joined(JoinBy.PROMPT)
        assert set(answers(result.records)) == {("Dust.", "Air."), ("So.", None), (None, "I.")}
        (joined,) = [one for one in result.records if one.strong and one.weak]
        assert (joined.file, joined.line) == (str(strong), 1)
        assert (read.n_rows, result.n_rows, result.n_merged) == (4, 4, 1)


def test_one_log_with_both_models_joins_too_and_keeps_the_order_of_lines(tmp_path: Path):
    rows = [
        build.openai_pair("Why?", "Air.", "gpt-4o-mini"),
        {"prompt": 5, "request": {}, "response": {}},
        build.openai_pair("How?", "So."),
        build.openai_pair("Why?", "Dust."),
    ]
    result = read_records([write_log(tmp_path / "log.jsonl", rows)], Pair()).joined(JoinBy.PROMPT)
    assert [(row.line, isinstance(row, Record)) for row in result.rows] == [(2, False), (3, True), (4, True)]
    assert answers(result.records) == [("So.", None), ("Dust.", "Air.")]
    assert result.n_rows == len(result.records) + len(result.quarantine) + result.n_merged == 4


def test_the_kth_strong_answer_goes_with_the_kth_weak_one_and_the_rest_stays_single():
    rows = [record("Hi", strong="s1"), record("Hi", weak="w1"), record("Hi", strong="s2"), record("Hi", weak="w2")]
    joined, n_merged = join_answers([*rows, record("Hi", strong="s3")], JoinBy.PROMPT)
    assert answers(joined) == [("s1", "w1"), ("s2", "w2"), ("s3", None)]
    assert n_merged == 2


def test_rows_with_both_answers_or_none_take_no_part():
    rows = [record("Hi", strong="s", weak="w"), record("Hi"), record("Hi", weak="w2")]
    assert join_answers(rows, JoinBy.PROMPT) == (rows, 0)


def test_ids_that_rows_have_of_their_place_join_nothing(tmp_path: Path):
    for name, model, texts in (("s", "gpt-4o", ("Why?", "How?")), ("w", "gpt-4o-mini", ("Who?", "When?"))):
        rows = [{"prompt": text, "model": model, "response": "So."} for text in texts]
        (tmp_path / name).mkdir()
        write_log(tmp_path / name / "log.jsonl", rows)
    read = read_records([tmp_path / "s" / "log.jsonl", tmp_path / "w" / "log.jsonl"], Pair())
    assert len(read.records) == 4
    assert read.joined(JoinBy.ID).n_merged == 0


@pytest.mark.parametrize(
    "change",
    [
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_object"}},
        {"messages": [user("a"), user("Why?")]},
    ],
    ids=["tools", "json", "turns"],
)
def test_requests_that_differ_beside_their_last_text_do_not_join(tmp_path: Path, change: dict[str, object]):
    plain = gateway_row("Why?", responses={"gpt-4o": {"content": "s"}})
    changed = gateway_row("Why?", responses={"gpt-4o-mini": {"content": "w"}})
    changed["request"] |= change
    read = read_records([write_log(tmp_path / "log.jsonl", [plain, changed])], Pair())
    assert read.joined(JoinBy.PROMPT) is read


def test_requests_with_images_join_by_id_only_for_one_question_is_asked_of_many_pictures(tmp_path: Path):
    question = {"type": "text", "text": "What is this?"}
    rows = [gateway_row(id="1", responses={model: {"content": "a cat"}}) for model in ("gpt-4o", "gpt-4o-mini")]
    for number, row in enumerate(rows):
        picture = {"type": "image_url", "image_url": {"url": f"https://x/{number}.png"}}
        row["request"] = {"messages": [{"role": "user", "content": [question, picture]}]}
    read = read_records([write_log(tmp_path / "log.jsonl", rows)], Pair())
    assert answers(read.joined(JoinBy.PROMPT).records) == [("a cat", None), (None, "a cat")]
    assert answers(read.joined(JoinBy.ID).records) == [("a cat", "a cat")]


def test_by_id_the_strong_rows_prompt_stands():
    strong, weak = record("Be brief. Why?", strong="s", id="1"), record("Why?", weak="w", id="1", task="t")
    (joined,), n_merged = join_answers([weak, strong], JoinBy.ID)
    assert (joined.prompt.text, joined.task, answers([joined]), n_merged) == ("Be brief. Why?", "t", [("s", "w")], 1)
    assert join_answers([weak, strong], JoinBy.PROMPT)[1] == 0


def test_join_can_be_turned_off():
    rows = [record("Hi", strong="s"), record("Hi", weak="w")]
    assert join_answers(rows, JoinBy.NONE) == (rows, 0)


def test_at_most_200_bytes_a_row_are_kept_to_join_by():
    assert KEY.itemsize == 25


def test_a_joined_pair_gets_a_label(tmp_path: Path):
    rows = [
        build.openai_pair("2 + 2?", "The answer is 4"),
        build.openai_pair("2 + 2?", "The answer is 4", "gpt-4o-mini"),
    ]
    read = read_records([write_log(tmp_path / "log.jsonl", rows)], Pair())
    assert label_records(read.records).labelled == []
    assert label_records(read.joined(JoinBy.PROMPT).records).by_labeller == {"agreement:identical": 1}


prompts = st.sampled_from(["a", "b", "\ud800"])
sides = st.sampled_from([{"strong": "s"}, {"weak": "w"}, {"strong": "s", "weak": "w"}, {}])


@given(st.lists(st.tuples(prompts, sides), max_size=20))
def test_a_join_loses_no_answer_and_invents_none(rows: list[tuple[str, dict[str, str]]]):
    records = [record(prompt, id=str(number), **side) for number, (prompt, side) in enumerate(rows)]
    joined, n_merged = join_answers(records, JoinBy.PROMPT)
    assert len(joined) + n_merged == len(records)
    for side in ("strong", "weak"):
        before, after = ([one.prompt.text for one in found if getattr(one, side)] for found in (records, joined))
        assert sorted(before) == sorted(after)
    for prompt in {one.prompt.text for one in joined}:
        left = {bool(one.strong) for one in joined if one.prompt.text == prompt and bool(one.strong) != bool(one.weak)}
        assert len(left) <= 1, "an answer of either model was left over for the same request"


@pytest.mark.parametrize(
    ("one", "other", "joined"),
    [
        ({}, {}, 1), ({"temperature": 0}, {"temperature": 0}, 1), ({"temperature": None}, {}, 1), ({"user": "a"}, {"user": "b"}, 1),  # noqa: E501
        ({"temperature": 0}, {"temperature": 1}, 0), ({"max_tokens": 5}, {}, 0), ({"stop": ["a"]}, {"stop": ["b"]}, 0),
        ({"tools": [{"type": "function", "function": {"name": "a"}}]}, {"tools": [{"type": "function", "function": {"name": "b"}}]}, 0),  # noqa: E501
        ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, 0),  # noqa: E501
    ],
)  # fmt: skip
def test_requests_are_the_same_only_with_the_same_tools_format_and_parameters(tmp_path, one, other, joined):
    rows = [
        {"request": {"messages": [{"role": "user", "content": "Hi"}], **extra}, "responses": {model: {"content": "x"}}}
        for model, extra in (("gpt-4o", one), ("gpt-4o-mini", other))
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(read_records([log], Pair()).joined(JoinBy.PROMPT).records) == 2 - joined
