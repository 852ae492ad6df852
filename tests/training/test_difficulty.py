"""Other models' scores steady the labels of rows that teach, and nothing of test rows or of the pair gets in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.runs import QUIET, SEED, TrainingRun, with_shuffled_labels
from turnout.serving.bundles.manifest import Pair
from turnout.serving.router.prompt import prompt_from_text
from turnout.training.dataset.dataset import Dataset, load_dataset
from turnout.training.dataset.splits import Part, split_groups
from turnout.training.encoders.embeddings import embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.fit.difficulty import N_OUTCOMES, OPINION_SHARE, Difficulty, is_of_pair, read_difficulty
from turnout.training.fit.fit import FitSettings, fit_head, fit_scaler
from turnout.training.learn.learn import learn
from turnout.training.logs.records import Record

N = 200
BOTH_RIGHT, STRONG_ONLY, BOTH_WRONG = 0, 1, 3


def record(number: int, source: str | None = "exam") -> Record:
    return Record(id=f"q{number}", prompt=prompt_from_text(f"Question {number}"), user_text="", source=source)


def line(number: int, model: str, score: object, **others: object) -> dict:
    return {"source": "exam", "prompt_id": f"q{number}", "model": model, "score": score} | others


def write(path: Path, lines: Sequence[dict]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def read(path: Path, n_records: int = 2) -> Difficulty:
    return read_difficulty(path, Pair(), [record(number) for number in range(n_records)], np.arange(n_records))


def graded(seed: int = 0) -> tuple[Difficulty, np.ndarray]:
    """Return scores of six models on N questions, and outcomes: hard ones are wrong, easy ones right, with noise."""
    draw = np.random.default_rng(seed)
    ease = draw.random(N)
    scores = (draw.random((N, 6)) < ease[:, None]).astype(np.float64)
    outcome = np.where(draw.random(N) < ease, BOTH_RIGHT, np.where(draw.random(N) < 0.5, STRONG_ONLY, BOTH_WRONG))
    return Difficulty(scores, np.zeros(N, np.int64), np.arange(N)), outcome


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o",
        "gpt-4o-mini",
        "GPT-4o-2024-08-06",
        "openai/gpt-4o-mini-2024-07-18",
        "gpt-4o-2024-05-13-FC",
        "gpt-4o-mini:free",
    ],
)
def test_pair_is_left_out_in_every_spelling(model: str, tmp_path: Path):
    assert is_of_pair(model, Pair())
    found = read(write(tmp_path / "scores.jsonl", [line(0, model, 1), line(0, "claude-3", 0)]))
    assert found.scores.shape == (2, 1)
    assert found.scores[0] == [0.0]


@pytest.mark.parametrize("model", ["gpt-4", "gpt-4-turbo", "gpt-4.1", "gpt-5-mini", "mini", "o1"])
def test_other_models_of_the_family_stay(model: str):
    assert not is_of_pair(model, Pair())


def test_scores_find_their_row_by_source_and_id(tmp_path: Path):
    lines = [line(0, "a", 0.5), line(1, "b", 1), line(1, "a", 0, source="other exam"), line(7, "a", 1)]
    found = read(write(tmp_path / "scores.jsonl", lines))
    assert np.array_equal(found.scores, [[0.5, np.nan], [np.nan, 1.0]], equal_nan=True)


def test_parquet_and_csv_say_the_same_as_jsonl(tmp_path: Path):
    lines = [line(0, "a", 0.5), line(1, "b", 1.0)]
    expected = read(write(tmp_path / "scores.jsonl", lines)).scores
    pq.write_table(pa.Table.from_pylist(lines), tmp_path / "scores.parquet")
    (tmp_path / "scores.csv").write_text("source,prompt_id,model,score\nexam,q0,a,0.5\nexam,q1,b,1.0\n")
    for name in ("scores.parquet", "scores.csv"):
        assert np.array_equal(read(tmp_path / name).scores, expected, equal_nan=True)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (line(0, "a", 7), "from 0 to 1, got 7.0"),
        (line(0, "a", "good"), "a number score"),
        ({"source": "exam", "model": "a", "score": 1}, "prompt_id"),
        (line(0, "gpt-4o", 1), "no score of a model other than gpt-4o and gpt-4o-mini"),
    ],
)
def test_bad_table_is_refused_with_what_was_expected(bad: dict, said: str, tmp_path: Path):
    with pytest.raises(DataRefused, match=said):
        read(write(tmp_path / "scores.jsonl", [bad]))


def test_easy_question_makes_a_lone_failure_doubtful():
    difficulty, outcome = graded()
    target = difficulty.soften(outcome)
    solved = difficulty.scores.sum(axis=1)
    failed = outcome == STRONG_ONLY
    assert target[failed & (solved >= 5), BOTH_RIGHT].mean() > 2 * target[failed & (solved <= 1), BOTH_RIGHT].mean()
    assert target[np.arange(N), outcome].min() >= 1.0 - OPINION_SHARE - 1e-9


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0, 0.9))
def test_targets_are_probabilities_whatever_is_missing(seed: int, missing: float):
    difficulty, outcome = graded(seed)
    gone = np.random.default_rng(seed).random(difficulty.scores.shape) < missing
    target = replace(difficulty, scores=np.where(gone, np.nan, difficulty.scores)).soften(outcome)
    assert target.min() >= 0.0
    assert np.allclose(target.sum(axis=1), 1.0)
    unscored = gone.all(axis=1)
    assert np.array_equal(target[unscored], np.eye(N_OUTCOMES)[outcome[unscored]])


def test_second_opinion_does_not_rest_on_labels_of_its_own_group():
    difficulty, outcome = graded()
    groups = replace(difficulty, group=np.arange(N) // 4)
    canary = outcome.copy()
    canary[:4] = (canary[:4] + 1) % N_OUTCOMES
    own = np.eye(N_OUTCOMES)
    before, after = groups.soften(outcome), groups.soften(canary)
    opinions = [
        target[:4] - (1 - OPINION_SHARE) * own[label[:4]] for target, label in ((before, outcome), (after, canary))
    ]
    assert np.allclose(*opinions, atol=1e-12)
    assert not np.allclose(before[4:], after[4:])


def test_small_source_keeps_its_labels():
    difficulty, outcome = graded()
    source = (np.arange(N) >= 50).astype(np.int64)
    target = replace(difficulty, source=source).soften(outcome)
    assert np.array_equal(target[:50], np.eye(N_OUTCOMES)[outcome[:50]])
    assert not np.array_equal(target[50:], np.eye(N_OUTCOMES)[outcome[50:]])


def test_certain_soft_targets_give_the_fit_of_the_labels(encoder: EncoderModel):
    texts = [f"Prove {row % 7} and {row % 11}" for row in range(N)]
    table = embed([prompt_from_text(text) for text in texts], encoder, cache_dir=None)
    _, outcome = graded()
    chosen = FitSettings()
    scaler = fit_scaler(table, chosen)
    hard, soft = (
        fit_head(scaler, table, outcome, chosen, with_dense=True, soft=target)
        for target in (None, np.eye(N_OUTCOMES)[outcome])
    )
    assert np.allclose(
        hard.log_odds(scaler, table), soft.log_odds(scaler, table), atol=2e-3
    )  # the solver ends at a gradient of 1e-4


def scores_of(data: Dataset, out: Path, shuffled: np.ndarray) -> Path:
    """Write three models' scores that follow the weak model's, those of some rows in another order."""
    draw = np.random.default_rng(5)
    score = np.abs(data.weak_score[:, None] - (draw.random((len(data.rows), 3)) < 0.2))
    score[shuffled] = score[draw.permutation(shuffled)]
    lines = [
        {"source": one.source, "prompt_id": one.id, "model": f"other-{model}", "score": float(score[row, model])}
        for row, one in enumerate(data.records)
        for model in range(3)
    ]
    return write(out, lines)


@pytest.mark.usefixtures("light_runs")
@pytest.mark.slow
def test_labels_and_scores_of_test_rows_never_reach_the_router_and_scores_of_others_do(
    training_run: TrainingRun, encoder: EncoderModel, tmp_path: Path
):
    log = tmp_path / "whole.jsonl"
    log.write_bytes(b"".join(training_run.log.read_bytes().splitlines(keepends=True)[:450]))
    data = load_dataset([log], Pair(), None, 0.0, QUIET).dataset
    test = np.flatnonzero(split_groups(data.records, data.groups.group, SEED) == Part.TEST)
    true = scores_of(data, tmp_path / "true.jsonl", test[:0])
    canary = scores_of(data, tmp_path / "canary.jsonl", test)
    assert true.read_bytes() != canary.read_bytes()
    other_log = with_shuffled_labels(log, data, test, tmp_path / "log.jsonl")
    part = np.full(len(data.rows), int(Part.FIT))
    part[test] = Part.TEST
    chosen = replace(training_run.settings, learning_curve=False, fit=FitSettings())
    ours, theirs, without = (
        learn(
            load_dataset([one], Pair(), None, 0.0, QUIET).dataset,
            part,
            encoder,
            replace(chosen, scores=scores),
            "",
            QUIET,
        )
        for one, scores in ((log, true), (other_log, canary), (log, None))
    )
    assert ours.graph == theirs.graph
    assert ours.manifest.policies == theirs.manifest.policies
    assert ours.manifest.metrics == theirs.manifest.metrics
    assert ours.graph != without.graph
    assert ours.evaluation.n == len(data.rows) - test.size
