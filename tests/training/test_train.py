"""One training run from log to bundle, and what `predict` and `evaluate` then say with it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.log_builders import flat_row, gateway_row
from tests.training.runs import QUIET, SEED, TrainingRun, fewer_candidates, light_run
from turnout.serving.bundles.bundle import GOLDEN, GOLDEN_CHECKS, GRAPH, SEEN_GROUPS, Bundle, load_bundle
from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.decision import decide
from turnout.serving.decision.routes import MAX_ESTIMATED_TOKENS
from turnout.serving.errors import EXIT_DATA_REFUSED
from turnout.serving.router.prompt import prompt_from_text
from turnout.training.cli.predict import predict_file
from turnout.training.dataset.dataset import Dataset, load_dataset
from turnout.training.dataset.splits import Part, split_groups
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.evaluation.evaluate import Evaluation
from turnout.training.learn.evaluating import evaluate_bundle
from turnout.training.learn.predict import seen_rows
from turnout.training.learn.settings import TrainSettings
from turnout.training.learn.train import train
from turnout.training.logs.read import read_records
from turnout.training.logs.reading import Reading
from turnout.training.sample.sample import make_sample, true_p_match, write_sample

POLICY = "max_worse=0.05"
HELD_OUT = 400


@pytest.fixture(scope="module")
def bundle(training_run: TrainingRun) -> Bundle:
    return load_bundle(training_run.bundle)


@pytest.fixture(scope="module")
def data(training_run: TrainingRun) -> Dataset:
    return load_dataset([training_run.log], Pair(), None, 0.0, QUIET).dataset


@pytest.fixture(scope="module")
def part(data: Dataset) -> np.ndarray:
    return split_groups(data.records, data.groups.group, SEED)


@pytest.fixture(scope="module")
def fresh(bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
    """Return p_match of the full model and the true one, for rows of another seed."""
    rows = make_sample(HELD_OUT, seed=77)
    prompts = [prompt_from_text(row["request"]["messages"][-1]["content"]) for row in rows if "session_id" not in row]
    said = [bundle.model.predict(prompt, 0.5, early_exit=False).p_match for prompt in prompts]
    return np.array(said), np.array([true_p_match(row) for row in rows if "session_id" not in row])


def evaluated(bundle: Bundle, data: Dataset, *, include_seen: bool = False) -> Evaluation:
    policy = bundle.manifest.policy("")
    return evaluate_bundle(bundle, data, policy, early_exit=True, include_seen=include_seen, seed=SEED, reporter=QUIET)


def predicted(bundle_folder: Path, data: Path, out: Path, *, early_exit: bool = True) -> list[dict[str, Any]]:
    predict_file(bundle_folder, [data], out, POLICY, Reading(), early_exit=early_exit, quiet=True)
    return pq.read_table(out).to_pylist()


def write_lines(path: Path, rows: Sequence[dict | bytes]) -> Path:
    path.write_bytes(b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows))
    return path


def test_bundle_says_what_it_was_made_of(training_run: TrainingRun, bundle: Bundle):
    manifest = bundle.manifest
    assert manifest == training_run.trained.manifest
    assert manifest.synthetic
    assert manifest.training.rows == {"fit": 1500}
    assert manifest.margin == 0.0
    assert manifest.default_policy in {policy.name for policy in manifest.policies}
    assert manifest.default_reason in (training_run.bundle / "card.md").read_text()
    assert manifest.training.seed == SEED
    assert manifest.training.labellers == {"scores": 1500}
    assert manifest.metrics["auroc"] == training_run.trained.evaluation.auroc
    assert {"card.md", SEEN_GROUPS, "report/index.html", "report/evaluation.json"} <= manifest.files.keys()


def test_policies_of_the_bundle_are_priced_from_logged_usage(bundle: Bundle):
    costs = {policy.name: policy.cost_usd_per_1k for policy in bundle.manifest.policies}
    assert costs["threshold=1"] > 5 * costs["threshold=0"] > 0  # what is out of distribution goes strong there too
    assert sum(name.startswith("max_cost_usd_per_1k=") for name in costs) == 3
    assert "min_quality=0.98" in costs


def test_rows_without_use_are_counted_and_bad_ones_listed(training_run: TrainingRun):
    assert training_run.trained.n_quarantined == 1
    assert training_run.trained.unlabelled == {"only_strong": 1}
    (line,) = (training_run.bundle.parent / "bundle.quarantine.jsonl").read_text().splitlines()
    assert json.loads(line) == {"file": str(training_run.log), "line": 1501, "reason": "invalid_json"}


def test_router_ranks_better_than_chance(training_run: TrainingRun):
    evaluation = training_run.trained.evaluation
    assert evaluation.auroc > 0.6
    assert evaluation.n == 1500  # every row, answered without its group


def test_p_match_of_fresh_rows_is_near_the_truth(fresh: tuple[np.ndarray, np.ndarray]):
    said, true = fresh
    assert said.mean() == pytest.approx(true.mean(), abs=0.035)
    error, error_of_the_mean = np.abs(said - true).mean(), np.abs(true.mean() - true).mean()
    assert error < 0.095
    assert error < 0.9 * error_of_the_mean
    assert np.corrcoef(said, true)[0, 1] > 0.5


def test_evaluate_leaves_out_every_row_that_taught(bundle: Bundle, data: Dataset):
    with pytest.raises(DataRefused, match="at least one row"):
        evaluated(bundle, data)


def test_figures_of_the_training_run_are_not_better_than_those_on_fresh_rows(
    training_run: TrainingRun, bundle: Bundle, tmp_path: Path
):
    write_sample(tmp_path / "fresh.jsonl", 700, seed=123)
    theirs = evaluated(bundle, load_dataset([tmp_path / "fresh.jsonl"], Pair(), None, 0.0, QUIET).dataset)
    ours = training_run.trained.evaluation
    assert ours.auroc == pytest.approx(theirs.auroc, abs=0.06)
    assert ours.log_loss == pytest.approx(theirs.log_loss, abs=0.04)


def test_thresholds_of_the_bundle_stand_in_its_table(training_run: TrainingRun, bundle: Bundle):
    assert {policy.threshold for policy in bundle.manifest.policies} <= set(
        training_run.trained.evaluation.thresholds.threshold
    )


def test_any_level_is_served_and_agrees_with_the_table(bundle: Bundle):
    for policy in bundle.manifest.policies:
        if policy.kind == "max_worse":
            without = msgspec.structs.replace(bundle.manifest, policies=[])
            assert without.policy(policy.name).threshold == pytest.approx(policy.threshold, abs=1e-9)
    between = bundle.manifest.policy("max_worse=0.03")
    strict, loose = bundle.manifest.policy("max_worse=0.02"), bundle.manifest.policy("max_worse=0.05")
    assert strict.threshold >= between.threshold >= loose.threshold


def test_learning_curve_is_kept_when_it_is_asked_for(training_run: TrainingRun, part: np.ndarray):
    curve = training_run.trained.evaluation.learning_curve
    assert [point.rows for point in curve.points] == [500, int((part == Part.FIT).sum())]
    assert 'id="learning"' in (training_run.bundle / "report" / "index.html").read_text()


def test_every_row_that_taught_is_seen(bundle: Bundle, data: Dataset):
    assert seen_rows(bundle, data).all()


def test_a_repeated_prompt_is_seen_whatever_its_case(bundle: Bundle, data: Dataset, tmp_path: Path):
    texts = [data.rows[0].record.user_text.upper(), "A question that no row of the log has asked 8675309"]
    rows = [flat_row(text, strong_score=1, weak_score=1) for text in texts]
    again = load_dataset([write_lines(tmp_path / "again.jsonl", rows)], Pair(), None, 0.0, QUIET).dataset
    assert seen_rows(bundle, again).tolist() == [True, False]


def test_include_seen_keeps_every_row_and_counts_the_seen(training_run: TrainingRun, bundle: Bundle, tmp_path: Path):
    write_sample(tmp_path / "both.jsonl", 200, seed=124)
    with (tmp_path / "both.jsonl").open("ab") as both, training_run.log.open("rb") as known:
        both.writelines(itertools.islice(known, 150))
    evaluation = evaluated(
        bundle, load_dataset([tmp_path / "both.jsonl"], Pair(), None, 0.0, QUIET).dataset, include_seen=True
    )
    assert (evaluation.n, 150 <= evaluation.n_seen_in_training < 250) == (350, True)


def test_nothing_left_after_the_seen_rows_is_refused(bundle: Bundle, data: Dataset, tmp_path: Path):
    known = data.rows[0].record.user_text
    log = write_lines(tmp_path / "known.jsonl", [flat_row(known, strong_score=1, weak_score=0)])
    with pytest.raises(DataRefused, match="at least one row"):
        evaluated(bundle, load_dataset([log], Pair(), None, 0.0, QUIET).dataset)


def test_predict_writes_one_row_an_input_row_in_order(training_run: TrainingRun, data: Dataset, tmp_path: Path):
    model = load_bundle(training_run.bundle).model
    prompts = (row.record.prompt for row in data.rows)
    known = next(one.text for one in prompts if not model.predict(one, 0.5).is_out_of_distribution)
    rows = [
        gateway_row(known, id="first"),
        b'{"id": "broken", "request": ',
        gateway_row("   ", id="empty"),
        gateway_row("word " * MAX_ESTIMATED_TOKENS, id="long"),
        {"id": "none"},
        gateway_row(known, id="last"),
    ]
    found = predicted(training_run.bundle, write_lines(tmp_path / "in.jsonl", rows), tmp_path / "out.parquet")
    assert [row["reason"] for row in found] == ["MODEL", "INVALID", "INVALID", "TOO_LONG", "INVALID", "MODEL"]
    assert [found[index]["id"] for index in (0, 2, 3, 4, 5)] == ["first", "empty", "long", "none", "last"]
    for row in found:
        if row["reason"] == "INVALID":
            assert (row["route"], row["p_match"], row["stage"]) == ("strong", None, None)
    assert found[3]["route"] == "strong"
    assert 0 < found[3]["p_match"] < 1


@pytest.mark.parametrize("early_exit", [True, False])
def test_predictions_are_the_served_decisions(
    training_run: TrainingRun, bundle: Bundle, tmp_path: Path, *, early_exit: bool
):
    log = tmp_path / "log.jsonl.gz"
    write_sample(log, 120, seed=5)
    policy = bundle.manifest.policy(POLICY)
    records = read_records([log], Pair()).records
    found = predicted(training_run.bundle, log, tmp_path / "out.parquet", early_exit=early_exit)
    assert [row["id"] for row in found] == [record.id for record in records]
    for row, record in zip(found, records, strict=True):
        decision = decide(bundle, record.prompt, policy, early_exit=early_exit)
        expected = (decision.p_match, decision.route, decision.stage, decision.reason, record.source)
        assert tuple(row[name] for name in ("p_match", "route", "stage", "reason", "source")) == expected
    assert {row["stage"] for row in found} == ({"FAST", "FULL"} if early_exit else {"FULL"})


def test_failed_write_leaves_the_earlier_predictions(training_run: TrainingRun, tmp_path: Path):
    out = tmp_path / "out.parquet"
    log = write_lines(tmp_path / "in.jsonl", [gateway_row("Is water wet?")])
    before = predicted(training_run.bundle, log, out)
    with pytest.raises(DataRefused):
        predicted(training_run.bundle, tmp_path / "absent.jsonl", out)
    assert pq.read_table(out).to_pylist() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.parquet"]


def test_second_run_gives_the_same_router_and_another_salt(
    training_run: TrainingRun, encoder: EncoderModel, tmp_path: Path
):
    settings = replace(training_run.settings, learning_curve=False)
    with fewer_candidates(), light_run():
        second = train([training_run.log], tmp_path / "second", encoder, settings, QUIET)
    for name in (GRAPH, GOLDEN):
        assert (tmp_path / "second" / name).read_bytes() == (training_run.bundle / name).read_bytes()
    ours, first = second.manifest, training_run.trained.manifest
    assert (ours.policies, ours.exit_band, ours.training.settings, ours.metrics) == (
        first.policies,
        first.exit_band,
        first.training.settings,
        first.metrics,
    )
    assert ours.training.group_salt != first.training.group_salt


def test_no_prompt_of_the_log_is_found_in_the_bundle(training_run: TrainingRun, data: Dataset):
    files = {path: path.read_bytes() for path in training_run.bundle.rglob("*") if path.is_file()}
    assert len(files) >= 8
    texts = [data.rows[row].record.user_text for row in range(0, len(data.rows), 40)]
    needles = {text[start : start + 40] for text in texts for start in (0, len(text) // 2, max(0, len(text) - 40))}
    needles = {needle for needle in needles if len(needle) >= 15}
    assert len(needles) > 60
    for needle in needles:
        for raw in (needle.encode(), json.dumps(needle).strip('"').encode()):
            assert not [path for path, content in files.items() if raw in content], needle
    golden = json.loads(files[training_run.bundle / GOLDEN].splitlines()[0])["prompt"]
    assert {path.name for path, content in files.items() if golden.encode() in content} == {GOLDEN, GOLDEN_CHECKS}


def test_log_with_too_few_rows_is_refused_with_what_is_needed(encoder: EncoderModel, tmp_path: Path):
    log = tmp_path / "log.jsonl"
    write_sample(log, 150, seed=0)
    with pytest.raises(DataRefused, match="at least 200 groups") as refused:
        train([log], tmp_path / "bundle", encoder, TrainSettings(), QUIET)
    assert refused.value.exit_code == EXIT_DATA_REFUSED
    assert not (tmp_path / "bundle").exists()


def test_log_where_the_weak_model_never_fails_is_refused(encoder: EncoderModel, tmp_path: Path):
    rows = [gateway_row(f"{index} bottles", responses=both_right()) for index in range(400)]
    log = write_lines(tmp_path / "log.jsonl", rows)
    with pytest.raises(DataRefused, match="0 with a worse weak answer"):
        train([log], tmp_path / "bundle", encoder, TrainSettings(), QUIET)


def both_right() -> dict[str, dict[str, float]]:
    return {name: {"score": 1.0} for name in (Pair().strong, Pair().weak)}


def test_folder_in_use_is_refused_before_any_work(training_run: TrainingRun, encoder: EncoderModel, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("keep")
    settings = replace(training_run.settings, cache_dir=None)
    with pytest.raises(DataRefused, match="no bundle"):
        train([tmp_path / "absent.jsonl"], tmp_path, encoder, settings, QUIET)
