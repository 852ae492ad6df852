"""The quality benchmark on small data: what a fold may see, and what the table says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tests.bench.quality import apart
from tests.bench.quality.figures import Answers, compare
from tests.bench.quality.kept import KeptAnswers
from tests.bench.quality.ours import strangers
from tests.bench.quality.printed import markdown
from tests.bench.quality.questions import Fold, Questions, Spec
from tests.log_builders import record
from turnout.serving.bundles.manifest import Pair
from turnout.serving.router.features import N_BUCKETS
from turnout.training.dataset.dataset import Dataset
from turnout.training.dataset.splits import Groups
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.logs.records import Label, LabelledRecord

N = 240

OURS = {"ranking_less_it": "ours", "served_less_it": "other"}


@pytest.fixture(scope="module")
def questions() -> Questions:
    """Return 240 rows in 120 groups and seven units; groups cross units; the weak model fails on a third."""
    rng = np.random.default_rng(5)
    strong, weak = np.ones(N), (rng.random(N) > 1 / 3).astype(float)
    rows = [
        LabelledRecord(record(f"prompt {row}", source="one"), Label(int(weak[row]), "scores", 1.0)) for row in range(N)
    ]
    groups = Groups(np.arange(N) % 120, [()] * N)
    data = Dataset(rows, groups, weak.astype(np.int64), strong, weak, has_scores=True, weight=np.ones(N))
    counts = csr_matrix((N, N_BUCKETS), dtype=np.float32)
    table = FeatureTable(counts, np.zeros((N, 16), np.float32), rng.normal(size=(N, 8)).astype(np.float32))
    return Questions(Spec(Path("rows.jsonl")), data, np.arange(N), table, np.arange(N) % 7)


def test_no_group_and_no_held_out_value_stands_on_both_sides(questions: Questions):
    seen = np.zeros(N, dtype=int)
    for fold in questions.folds(seed=0):
        assert not set(questions.unit[fold.train]) & set(questions.unit[fold.test])
        assert not set(questions.group[fold.train]) & set(questions.group[fold.test])
        seen[fold.test] += 1
    assert (seen == 1).all()


def test_ours_against_itself_differs_by_nothing_and_beats_a_shuffle(questions: Questions):
    knowing = 0.3 + 0.5 * questions.match + np.linspace(0, 0.1, N)
    shuffled = np.random.default_rng(0).permutation(knowing)
    answers = {"ours": Answers(knowing, knowing), "same": Answers(knowing, knowing), "shuffled": Answers(shuffled)}
    found = compare(questions, answers, {"ranking_less_it": "ours", "served_less_it": "same"}, seed=0)
    assert found["same"]["ranking_less_it"]["apgr"] == {"difference": 0.0, "interval": (0.0, 0.0)}
    assert found["shuffled"]["ranking_less_it"]["apgr"]["interval"][0] > 0.2
    assert found["ours"]["figures"]["auroc"] == 1.0
    assert "ece" not in found["shuffled"]["figures"]


def test_strangers_are_rows_of_words_that_the_other_folds_do_not_use(questions: Questions):
    """Two rows of one group, so of one fold, that no other shares a word with; all others say the same."""
    buckets = np.where(np.isin(np.arange(N), (7, 127)), 5, 3)
    counts = csr_matrix((np.ones(N, np.float32), (np.arange(N), buckets)), shape=(N, N_BUCKETS))
    asked = replace(questions, table=replace(questions.table, counts=counts), unit=questions.group)
    flagged = np.zeros(N, dtype=bool)
    for fold in asked.folds(seed=0):
        flagged[fold.test] = strangers(fold)
    assert np.flatnonzero(flagged).tolist() == [7, 127]


def test_table_names_what_was_left_out_and_keeps_published_figures_apart(questions: Questions):
    p = np.linspace(0, 1, N)
    routers = compare(questions, {"ours": Answers(p, p), "other": Answers(1 - p, 1 - p)}, OURS, seed=0)
    result = {"n": N, "seed": 0, "left_out": ["SetFit (no environment)"], "routers": routers}
    text = markdown("rows", "routellm-mmlu", result)
    assert "Left out: SetFit (no environment)." in text
    assert [line.count("|") for line in text.splitlines() if line.startswith("|")] == [11] * 5
    assert "not comparable" in text
    assert json.dumps(routers)


def test_unknown_option_of_a_table_is_refused():
    with pytest.raises(SystemExit, match="expected FILE"):
        Spec.parse("rows.parquet,sauce=x")


def test_table_names_the_pair_whose_rows_it_compares():
    assert Spec.parse("rows.parquet").pair == Pair()
    assert Spec.parse("rows.parquet,source=x,strong=big,weak=small").pair == Pair("big", "small")


@pytest.mark.skipif(not apart.LITELLM.is_there, reason="no .venv-bench-quality-litellm; run make bench-quality-peers")
@pytest.mark.bench
def test_litellm_finds_a_proof_harder_than_a_greeting():
    hard = "Prove the theorem step by step, then derive the algorithm's complexity and analyze the architecture."
    complexity, success = apart.LITELLM.run("score", ["hi", hard]).T
    assert complexity[1] > complexity[0]
    assert ((success > 0) & (success < 1)).all()


def test_kept_answers_are_asked_once_and_only_for_the_same_rows(questions: Questions, tmp_path: Path):
    asked = []

    def ask(fold: Fold) -> np.ndarray:
        asked.append(fold.test)
        return np.full(fold.test.size, 0.5)

    kept = KeptAnswers(tmp_path / "answers")
    first, second = list(questions.folds(seed=0))[:2]
    for fold in (first, second, first):
        assert (kept.of("router", fold, ask) == 0.5).all()
    assert len(asked) == 2
    kept.of("another router", first, ask)
    assert len(asked) == 3
