"""The synthetic sample: its shape, its truth, its variety."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from turnout.serving.bundles.manifest import Pair
from turnout.training.labels import label_records
from turnout.training.labels.reference import ReferenceLabeller
from turnout.training.logs.read import ReadResult, read_records
from turnout.training.sample.sample import STRONG, TASK_LOGITS, WEAK, make_sample, true_p_match, write_sample

ROWS = 3000


@pytest.fixture(scope="module")
def sample() -> list[dict]:
    return make_sample(ROWS, seed=1)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> ReadResult:
    path = tmp_path_factory.mktemp("sample") / "log.jsonl.gz"
    write_sample(path, ROWS, seed=1)
    return read_records([path], Pair())


def outcomes(sample: list[dict]) -> np.ndarray:
    scores = [[row["responses"][model]["score"] for model in (STRONG, WEAK)] for row in sample]
    return np.asarray(scores)


def test_every_row_says_that_it_is_synthetic(sample: list[dict]):
    assert len(sample) == len({row["id"] for row in sample}) == ROWS
    assert all(row["id"].startswith("synthetic-") and row["source"] == "synthetic" for row in sample)


def test_the_reader_takes_every_row(sample: list[dict], result: ReadResult):
    assert not result.quarantine
    assert [record.id for record in result.records] == [row["id"] for row in sample]
    assert len(label_records(result.records).labelled) == ROWS


def test_all_tasks_languages_and_shapes_occur(sample: list[dict], result: ReadResult):
    assert {row["task"] for row in sample} == set(TASK_LOGITS)
    assert Counter(row["synthetic"]["language"] for row in sample).keys() == {"en", "de", "fr", "es", "ja"}
    prompts = [record.prompt for record in result.records]
    assert {prompt.turns for prompt in prompts} == {1, 2, 3}
    assert any(prompt.tools for prompt in prompts)
    assert any(prompt.wants_json for prompt in prompts)


def test_outcomes_follow_the_stated_probability(sample: list[dict]):
    p_match = np.asarray([true_p_match(row) for row in sample])
    strong, weak = outcomes(sample).T
    match = weak >= strong
    spread = np.sqrt((p_match * (1 - p_match)).sum()) / ROWS
    assert match.mean() == pytest.approx(p_match.mean(), abs=4 * spread)
    assert 0.82 < match.mean() < 0.88
    assert 0.75 < roc_auc_score(match, p_match) < 0.83
    for low, high in ((0, 0.7), (0.7, 0.9), (0.9, 1)):
        band = (p_match >= low) & (p_match < high)
        assert match[band].mean() == pytest.approx(p_match[band].mean(), abs=0.05)


def test_scores_agree_with_answers_and_references(result: ReadResult):
    judged = [(record, label) for record in result.records if (label := ReferenceLabeller()(record))]
    assert len(judged) > ROWS // 5
    wrong = [record.id for record, label in judged if label.strong_score != record.strong.score]
    assert not wrong


def test_rows_are_different_enough_to_learn_from(sample: list[dict]):
    texts = Counter(row["request"]["messages"][-1]["content"] for row in sample)
    assert len(texts) > 0.97 * ROWS


def test_near_duplicates_are_rare(sample: list[dict]):
    seen: dict[str, list[set[str]]] = {}
    distinct = 0
    for row in sample[:1000]:
        words = row["request"]["messages"][-1]["content"].split()
        shingles = {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}
        others = seen.setdefault(row["task"], [])
        distinct += all(len(shingles & other) < 0.8 * len(shingles | other) for other in others)
        others.append(shingles)
    assert distinct > 900


def test_sessions_hold_the_turns_before(sample: list[dict]):
    sessions: dict[str, list[dict]] = {}
    for row in sample:
        if "session_id" in row:
            sessions.setdefault(row["session_id"], []).append(row)
    assert 0.08 < sum(map(len, sessions.values())) / ROWS < 0.2
    for rows in sessions.values():
        first, second = rows[0]["request"]["messages"], rows[-1]["request"]["messages"]
        assert second[: len(first)] == first
        assert len(second) == 2 * len(rows) - 1


def test_created_rises_and_stays_within_a_week(sample: list[dict]):
    created = [row["created"] for row in sample]
    assert created == sorted(created)
    assert created[-1] - created[0] < 7 * 86_400


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path: Path):
    program = """if True:
        import pathlib, sys
        from turnout.training.sample.sample import write_sample
        write_sample(pathlib.Path(sys.argv[1]), 50, 9)"""
    subprocess.run([sys.executable, "-c", program, tmp_path / "a.jsonl.gz"], check=True, env={"PYTHONHASHSEED": "123"})
    write_sample(tmp_path / "b.jsonl.gz", 50, 9)
    write_sample(tmp_path / "c.jsonl", 50, 10)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    written = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert written == make_sample(50, 10) != make_sample(50, 9)
