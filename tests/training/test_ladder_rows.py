"""Logs of more than two models: whose answers belong to one request, and which rows teach which rung."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from tests.training.ladders import NAMES, TOP, three_model_rows, without, write_answers, write_scores, write_wide
from tests.training.runs import QUIET
from turnout.serving.bundles.ladder import rung_of
from turnout.training.dataset.ladder import NO_LABEL, LadderRead, load_ladder
from turnout.training.dataset.ladder_costs import ladder_costs
from turnout.training.errors import DataRefused
from turnout.training.logs.reading import Reading
from turnout.training.logs.requests import read_requests
from turnout.training.progress import Reporter
from turnout.training.sample.sample import STRONG, WEAK

ROWS = three_model_rows(300, 4)


def load(path: Path, **more: object) -> LadderRead:
    return load_ladder([path], NAMES, Reading(), 0.0, 0, QUIET, **more)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> LadderRead:
    return load(write_wide(tmp_path_factory.mktemp("wide") / "log.jsonl", ROWS))


def expected(rows: list[dict], name: str) -> np.ndarray:
    return np.array([int(row["responses"][name]["score"] >= row["responses"][TOP]["score"]) for row in rows])


def test_wide_rows_are_labelled_rung_by_rung(wide: LadderRead):
    assert len(wide.requests) == 300
    assert np.array_equal(wide.match, np.column_stack([expected(ROWS, WEAK), expected(ROWS, STRONG)]))
    assert np.array_equal(wide.score[:, -1], [row["responses"][TOP]["score"] for row in ROWS])
    assert np.array_equal(wide.in_pair, np.arange(300))
    assert [row.record.weak.score for row in wide.pair.rows] == [row["responses"][WEAK]["score"] for row in ROWS]


def test_one_answer_a_row_gives_the_same_rows(tmp_path: Path):
    single = [row for row in ROWS if len(row["request"]["messages"]) == 1]
    prompts = [row["request"]["messages"][0]["content"] for row in single]
    once = [row for row, prompt in zip(single, prompts, strict=True) if prompts.count(prompt) == 1]
    read = load(write_answers(tmp_path / "log.jsonl", once, 1))
    assert len(read.requests) == len(once)
    found = {
        request.record.prompt.text.strip(): tuple(match)
        for request, match in zip(read.requests, read.match, strict=True)
    }
    truth = np.column_stack([expected(once, WEAK), expected(once, STRONG)])
    assert len(found) == len(once)
    for row, match in zip(once, truth, strict=True):
        prompt = row["request"]["messages"][0]["content"]
        assert next(said for text, said in found.items() if prompt in text) == tuple(match)
    assert all(len(request.answers) == 3 for request in read.requests)


@pytest.mark.parametrize("with_source", [False, True])
def test_scores_of_a_table_join_rows_that_hold_the_other_two(tmp_path: Path, with_source: bool):
    log = write_wide(tmp_path / "log.jsonl", without(ROWS, TOP, 1.0, 0))
    table = write_scores(tmp_path / "scores.jsonl", ROWS, TOP)
    if with_source:
        table.write_text(
            table.read_text().replace('"id"', '"source": "synthetic", "prompt_id"').replace('"o3"', '"o3-2025-04-16"')
        )
    read = load(log, scores=table)
    assert np.array_equal(read.match, np.column_stack([expected(ROWS, WEAK), expected(ROWS, STRONG)]))
    assert all(request.answers[2].content is None for request in read.requests)


def test_a_row_without_a_rungs_answer_still_teaches_the_others(tmp_path: Path):
    rows = without(ROWS, STRONG, 0.5, 2)
    read = load(write_wide(tmp_path / "log.jsonl", rows))
    lacks = np.array([STRONG not in row["responses"] for row in rows])
    assert 100 < lacks.sum() < 200
    assert (read.match[lacks, 1] == NO_LABEL).all()
    assert (read.match[~lacks, 1] != NO_LABEL).all()
    assert (read.match[:, 0] != NO_LABEL).all()


def test_a_row_without_the_cheapest_rung_is_no_row_of_the_pair(tmp_path: Path):
    rows = without(ROWS, WEAK, 0.3, 3)
    read = load(write_wide(tmp_path / "log.jsonl", rows))
    assert np.array_equal(read.in_pair, [at for at, row in enumerate(rows) if WEAK in row["responses"]])
    assert read.pair.groups.n_groups == np.unique(read.group[read.in_pair]).size


def test_groups_hold_over_rows_of_different_rungs(tmp_path: Path):
    twins = [ROWS[0] | {"id": f"twin-{at}", "responses": dict(ROWS[0]["responses"])} for at in range(2)]
    del twins[0]["responses"][STRONG], twins[1]["responses"][WEAK]
    read = load(write_wide(tmp_path / "log.jsonl", [*ROWS, *twins]))
    of = {request.record.id: group for request, group in zip(read.requests, read.group, strict=True)}
    assert of["twin-0"] == of["twin-1"] == of[ROWS[0]["id"]]


def test_logged_usage_is_what_a_request_costs(wide: LadderRead):
    usd = ladder_costs(wide.requests, [rung_of(name) for name in (WEAK, STRONG, STRONG)])
    assert isinstance(usd, np.ndarray)
    usage = ROWS[0]["responses"][TOP]["usage"]
    assert usd[0, 2] == pytest.approx((usage["prompt_tokens"] * 2.5 + usage["completion_tokens"] * 10) / 1e6)
    assert (usd[:, 0] < usd[:, 1]).all()


def test_bad_rows_are_refused_and_cut_files_told_of_as_for_a_pair(tmp_path: Path):
    log = write_wide(tmp_path / "log.jsonl", three_model_rows(60, 5))
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"prompt": \n' * 90)
    with pytest.raises(DataRefused, match="90 of 150 rows can't be read"):
        load_ladder([log], NAMES, Reading(), 0.0, 0, QUIET)
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(whole)[:-200])
    said: list[str] = []

    class Heard(Reporter):
        def say(self, line: str) -> None:
            said.append(line)

    load_ladder([cut], NAMES, Reading(), 0.0, 0, Heard(quiet=True))
    assert any("cut.jsonl.gz is cut off or damaged" in line for line in said)


def test_a_model_that_no_row_names_is_refused_by_name(tmp_path: Path):
    log = write_wide(tmp_path / "log.jsonl", ROWS)
    with pytest.raises(DataRefused, match="o9"):
        load_ladder([log], (WEAK, "o9", TOP), Reading(), 0.0, 0, QUIET)
    with pytest.raises(DataRefused, match="--models"):
        read_requests([log], ("a", "b", "c"), Reading())


def test_a_table_of_other_rows_is_refused(tmp_path: Path):
    log = write_wide(tmp_path / "log.jsonl", ROWS[:20])
    table = write_scores(tmp_path / "scores.jsonl", ROWS[200:], TOP)
    with pytest.raises(DataRefused, match="prompt_id"):
        load(log, scores=table)
