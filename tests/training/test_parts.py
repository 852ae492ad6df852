"""Requests spread over several rows: batches by custom id, scores by observation; every row accounted for."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import gateway_builders as build
from tests.log_builders import write_log
from turnout.serving.bundles.manifest import Pair
from turnout.training.logs.quarantine import Reason
from turnout.training.logs.read import ReadResult, read_records
from turnout.training.logs.reading import Reading
from turnout.training.logs.records import Response

Row = dict[str, Any]


def read(*paths: Path, **reading: Any) -> ReadResult:
    return read_records(paths, Pair(), Reading(**reading))


def is_exact(result: ReadResult, n_rows: int) -> bool:
    return n_rows == result.n_rows == len(result.records) + len(result.quarantine) + result.n_merged


def batch_files(folder: Path) -> list[Path]:
    inputs = [build.batch_input("1", "Why?"), build.batch_input("2", "How?"), build.batch_input("3", "Who?")]
    outputs = [build.batch_output("2", "So."), build.batch_output("1", "Dust.")]
    weak = [build.batch_input("1", "Why?", "gpt-4o-mini"), build.batch_output("1", "Air.", "gpt-4o-mini-2024-07-18")]
    files = {"in": inputs, "out": outputs, "weak": weak}
    return [write_log(folder / f"{name}.jsonl", rows) for name, rows in files.items()]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_batch_input_and_output_are_joined_in_any_order_of_files(tmp_path: Path, order: tuple[int, ...]):
    files = batch_files(tmp_path)
    result = read(*(files[number] for number in order))
    found = {
        (record.prompt.text, record.strong and record.strong.content, record.weak and record.weak.content)
        for record in result.records
    }
    assert found == {("Why?", "Dust.", None), ("How?", "So.", None), ("Who?", None, None), ("Why?", None, "Air.")}
    assert (result.n_merged, is_exact(result, 7)) == (3, True)
    assert {(Path(record.file).name, record.line, record.id) for record in result.records} == {
        ("in.jsonl", 1, "1"),
        ("in.jsonl", 2, "2"),
        ("in.jsonl", 3, "3"),
        ("weak.jsonl", 1, "1"),
    }


def test_rows_of_a_joined_batch_keep_the_order_of_files_and_lines(tmp_path: Path):
    files = batch_files(tmp_path)
    result = read(files[1], files[0], files[2])
    assert [(Path(row.file).name, row.line) for row in result.rows] == [
        ("in.jsonl", 1),
        ("in.jsonl", 2),
        ("in.jsonl", 3),
        ("weak.jsonl", 1),
    ]


def test_the_usage_of_a_batch_answer_is_kept(tmp_path: Path):
    (record,) = read(write_log(tmp_path / "b.jsonl", [build.batch_output("1"), build.batch_input("1")])).records
    assert (record.strong, record.created) == (Response("Dust.", None, 7, 2), build.STARTED_S)


BAD_BATCH_ROWS = {
    "error": (build.batch_output("9", response=None, error={"code": "batch_expired"}), Reason.FAILED),
    "status": (build.batch_output("9", response={"status_code": 429, "body": {"error": {}}}), Reason.FAILED),
    "no request": (build.batch_output("9"), Reason.NO_REQUEST),
    "embedding": (build.batch_input("9", url="/v1/embeddings"), Reason.NOT_CHAT),
    "embedded": (
        build.batch_output("9", response={"status_code": 200, "body": {"object": "list", "model": "e"}}),
        Reason.NOT_CHAT,
    ),
    "no model": (build.batch_input("9", model=""), Reason.NO_MODEL),
    "type": (build.batch_input("9", body="hi"), Reason.INVALID_JSON),
}


@pytest.mark.parametrize(("row", "reason"), BAD_BATCH_ROWS.values(), ids=BAD_BATCH_ROWS)
def test_a_bad_batch_row_is_quarantined_with_its_reason(tmp_path: Path, row: Row, reason: Reason):
    result = read(write_log(tmp_path / "b.jsonl", [build.batch_input("1"), row, build.batch_output("1")]))
    assert [(bad.line, bad.reason) for bad in result.quarantine] == [(2, reason)]
    assert [record.strong for record in result.records] == [Response("Dust.", None, 7, 2)]
    assert is_exact(result, 3)


def test_different_requests_under_one_custom_id_are_ambiguous_and_so_are_their_answers(tmp_path: Path):
    rows = [build.batch_input("1", "Why?"), build.batch_input("1", "How?"), build.batch_output("1")]
    result = read(write_log(tmp_path / "b.jsonl", [*rows, build.batch_input("2"), build.batch_output("2")]))
    assert [(bad.line, bad.reason) for bad in result.quarantine] == [(line, Reason.AMBIGUOUS) for line in (1, 2, 3)]
    assert (len(result.records), is_exact(result, 5)) == (1, True)


def test_one_request_answered_twice_is_two_records(tmp_path: Path):
    rows = [build.batch_output("1", "a"), build.batch_input("1", "Why?"), build.batch_output("1", "b")]
    result = read(write_log(tmp_path / "b.jsonl", rows))
    assert [(record.line, record.strong.content) for record in result.records if record.strong] == [(2, "a"), (3, "b")]
    assert is_exact(result, 3)


def observations_and_scores(folder: Path, *scores: Row) -> list[Path]:
    observations = [
        build.observation(id="o1"),
        build.observation(id="o2"),
        build.observation(id="o3", model="gpt-4o-mini"),
    ]
    return [write_log(folder / "observations.jsonl", observations), write_log(folder / "scores.jsonl", list(scores))]


@pytest.mark.parametrize("reverse", [False, True])
def test_scores_reach_their_observation_in_either_order(tmp_path: Path, reverse: bool):
    files = observations_and_scores(tmp_path, build.langfuse_score("o3", 0.0), build.langfuse_score("o1", 1.0))
    result = read(*(reversed(files) if reverse else files))
    assert [(record.strong or record.weak).score for record in result.records] == [1.0, None, 0.0]
    assert (result.n_merged, is_exact(result, 5)) == (2, True)


def test_scores_that_do_not_count_are_quarantined_with_their_reason(tmp_path: Path):
    scores = [
        build.langfuse_score("o1", 0.5),
        build.langfuse_score("o1", 0.9, "toxic"),
        build.langfuse_score("o1", 7.0),
        build.langfuse_score("elsewhere", 1.0),
        build.langfuse_score("o2", 0, dataType="CATEGORICAL", stringValue="good"),
        build.langfuse_score("", 1.0),
    ]
    files = observations_and_scores(tmp_path, *scores)
    result = read(*files, score="correct")
    assert [row.reason for row in result.quarantine] == [
        Reason.OTHER_SCORE,
        Reason.OUT_OF_RANGE,
        Reason.NO_REQUEST,
        Reason.OTHER_SCORE,
        Reason.OTHER_SCORE,
    ]
    assert result.records[0].strong == Response("Dust.", 0.5, 7, 2)
    assert is_exact(result, 9)


def test_without_a_name_scores_of_several_names_do_not_count(tmp_path: Path):
    files = observations_and_scores(tmp_path, build.langfuse_score("o1", 1), build.langfuse_score("o1", 0, "toxic"))
    result = read(*files)
    assert result.rejected_by_reason == {Reason.OTHER_SCORE: 2}
    assert all((record.strong or record.weak).score is None for record in result.records)


def test_of_several_scores_for_one_answer_the_last_counts(tmp_path: Path):
    files = observations_and_scores(tmp_path, build.langfuse_score("o1", 1), build.langfuse_score("o1", 0.25))
    assert read(*files).records[0].strong == Response("Dust.", 0.25, 7, 2)


ids = st.sampled_from("12")
models = st.sampled_from(["gpt-4o", "gpt-4o-mini"])
batch_rows = st.builds(build.batch_input, ids, st.sampled_from(["a", "b"]), models) | st.builds(
    build.batch_output, ids, st.just("x"), models.map("{}-2024-08-06".format)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(batch_rows | st.just({"custom_id": 3, "response": 1}), max_size=6), min_size=1, max_size=3))
def test_every_row_of_any_batch_is_a_record_in_quarantine_or_merged(tmp_path: Path, files: list[list[Row]]):
    paths = [write_log(tmp_path / f"{number}.jsonl", rows) for number, rows in enumerate(files)]
    result = read(*paths, log_format="openai-batch")
    assert is_exact(result, sum(map(len, files)))
    answered = sum(bool(record.strong or record.weak) for record in result.records)
    refused = sum("response" in row for rows in files for row in rows) - answered
    assert len(result.quarantine) >= refused
    backwards = read(*reversed(paths), log_format="openai-batch")
    assert sorted(row.file for row in backwards.quarantine) == sorted(row.file for row in result.quarantine)
