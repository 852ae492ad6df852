"""Commands that read logs: sample, label, predict, evaluate, recalibrate, retrain."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from tests.contract.conftest import Turnout
from tests.gateway_builders import chat_attributes, observation, otlp, span, spend_log
from tests.log_builders import write_log
from tests.training.runs import TrainingRun, light_run
from turnout.serving.bundles.bundle import read_manifest
from turnout.serving.bundles.manifest import Pair
from turnout.training.bundle.publish import publish
from turnout.training.dataset.features.schema import feature_origin
from turnout.training.sample.sample import make_sample, write_sample


def test_sample_writes_what_it_says(turnout: Turnout, tmp_path: Path):
    out = tmp_path / "log.jsonl"
    ended = turnout("sample", "--out", out, "--rows", 30, "--seed", 4)
    assert ended.code == 0
    assert "30 synthetic rows" in ended.out
    assert [json.loads(line) for line in out.read_text().splitlines()] == make_sample(30, 4)


def test_label_writes_one_row_a_record_and_prints_a_ledger(turnout: Turnout, log: Path, tmp_path: Path):
    out = tmp_path / "labels.parquet"
    ended = turnout("label", log, "--out", out, "--quiet", "--json")
    ledger = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert ledger["rows"] == sum(ledger["labelled"].values()) == 60
    assert (ledger["abstained"], ledger["quarantined"]) == ({}, {})
    rows = pq.read_table(out).to_pylist()
    scores = [
        [row["responses"][model]["score"] for model in (Pair().strong, Pair().weak)] for row in make_sample(60, 2)
    ]
    assert [row["match"] for row in rows] == [int(weak >= strong) for strong, weak in scores]
    assert [row["line"] for row in rows] == list(range(1, 61))


def test_label_keeps_features_where_asked_and_a_salt_that_is_too_long_is_refused(
    turnout: Turnout, log: Path, tmp_path: Path
):
    out = tmp_path / "features.parquet"
    options = ("--keep", "features", "--no-cache", "--quiet", "--json", "--harness-rules", 0)
    ended = turnout("label", log, "--out", out, *options, "--salt", "of the year")
    assert (ended.code, ended.err) == (0, "")
    origin = feature_origin(out)
    assert origin is not None
    assert (origin.salt, origin.harness_rules) == ("of the year", 0)
    assert [len(row) for row in pq.read_table(out)["dense"].to_pylist()] == [384] * 60
    refused = turnout("label", log, "--out", tmp_path / "none.parquet", *options, "--salt", "x" * 65)
    assert refused.code == 2
    assert "at most 64 bytes" in refused.err
    assert [path.name for path in tmp_path.iterdir()] == ["features.parquet"]


def test_stored_labels_are_used_and_those_of_another_log_refused(
    turnout: Turnout, training_run: TrainingRun, log: Path, tmp_path: Path
):
    labels, figures = tmp_path / "labels.parquet", tmp_path / "figures.json"
    turnout("label", log, "--out", labels, "--quiet", "--json")
    evaluated = turnout("evaluate", training_run.bundle, log, "--labels", labels, "--out", figures, "--quiet", "--json")
    assert (evaluated.code, evaluated.err) == (0, "")
    assert json.loads(figures.read_bytes())["n"] == 60
    write_sample(tmp_path / "other.jsonl", 60, seed=3)
    refused = turnout("evaluate", training_run.bundle, tmp_path / "other.jsonl", "--labels", labels, "--quiet")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "none of the logs that these labels were made from" in refused.err


def test_label_for_people_prints_the_same_counts(turnout: Turnout, log: Path, tmp_path: Path):
    ended = turnout("label", log, "--out", tmp_path / "labels.parquet")
    assert ended.code == 0
    assert "60 rows in" in ended.out
    assert re.search(r"labelled: scores\W+60", ended.out)
    assert "Reading and labelling" in ended.err


def test_label_reads_gateway_logs_of_both_models_without_a_column_map(turnout: Turnout, tmp_path: Path):
    logs = tmp_path / "logs"
    logs.mkdir()
    plain = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "2 + 2?"}]})  # spans: no parameters
    asked = spend_log("2 + 2?", "It is 4", proxy_server_request=plain)
    write_log(logs / "spend.jsonl", [asked, spend_log("Who?", "I"), spend_log(status="failure")])
    span_of_weak = span(chat_attributes("2 + 2?", "It is 4", "gpt-4o-mini"))
    write_log(logs / "spans.json", [otlp(span({}), span_of_weak)])
    ended = turnout("label", logs, "--out", tmp_path / "labels.parquet", "--quiet", "--json")
    ledger = json.loads(ended.out)
    assert (ledger["rows"], ledger["merged"], ledger["labelled"]) == (5, 1, {"agreement:identical": 1})
    assert (ledger["abstained"], ledger["quarantined"]) == ({"only_strong": 1}, {"not_chat": 1, "failed": 1})
    rows = pq.read_table(tmp_path / "labels.parquet").to_pylist()
    assert [(Path(row["file"]).name, row["line"], row["index"], row["match"]) for row in rows] == [
        ("spend.jsonl", 1, 0, 1),
        ("spend.jsonl", 2, 0, None),
    ]


def test_label_takes_a_format_a_join_and_a_score(turnout: Turnout, tmp_path: Path):
    rows = [observation(id="1"), observation(id="1", model="gpt-4o-mini")]
    log = write_log(tmp_path / "log.jsonl", rows)
    for join, merged in (("none", 0), ("id", 1), ("prompt", 1)):
        ended = turnout("label", log, "--out", tmp_path / "o", "--quiet", "--json", "--join", join, "--score-name", "x")
        assert json.loads(ended.out)["merged"] == merged
    refused = turnout("label", log, "--out", tmp_path / "o", "--quiet", "--format", "unheard-of")
    assert (refused.code, "known are: auto" in refused.err) == (1, True)


@pytest.mark.slow
def test_predict_evaluate_and_report_on_a_trained_bundle(turnout: Turnout, training_run: TrainingRun, tmp_path: Path):
    log, out = tmp_path / "fresh.jsonl", tmp_path / "out.parquet"
    write_sample(log, 80, seed=21)
    predicted = turnout("predict", training_run.bundle, log, "--out", out, "--policy", "max_worse=0.05", "--quiet")
    assert (predicted.code, predicted.err) == (0, "")
    assert "80 rows, policy max_worse=0.05" in predicted.out
    assert pq.read_table(out).num_rows == 80

    figures = tmp_path / "evaluation.json"
    evaluated = turnout("evaluate", training_run.bundle, log, "--out", figures, "--quiet", "--json")
    assert evaluated.code == 0
    assert json.loads(evaluated.out) == json.loads(figures.read_bytes())
    assert 65 < json.loads(evaluated.out)["n"] <= 80
    shown = turnout("evaluate", training_run.bundle, log, "--quiet", "--include-seen").out
    assert "80 rows" in shown
    assert "out of distribution" in shown

    report = turnout("report", training_run.bundle, "--out", tmp_path / "report")
    assert (report.code, Path(report.out.strip()).name) == (0, "index.html")
    assert (tmp_path / "report" / "index.html").stat().st_size > 10_000


@pytest.mark.slow
def test_evaluate_judges_by_the_margin_that_the_bundle_was_trained_with(
    turnout: Turnout, training_run: TrainingRun, log: Path, tmp_path: Path
):
    """`p_match` is calibrated against that `match`; by another margin the figures would be of something else."""
    manifest = read_manifest(training_run.bundle)
    lenient = msgspec.structs.replace(manifest, margin=1.0)  # scores lie in [0, 1]: nothing is worse by more
    contents = {name: (training_run.bundle / name).read_bytes() for name in manifest.files}
    publish(tmp_path / "lenient", lenient, contents)

    def match_rate(*words: object) -> float:
        return json.loads(turnout("evaluate", *words, log, "--quiet", "--json").out)["match_rate"]

    assert match_rate(tmp_path / "lenient") == 1.0
    strict = match_rate(training_run.bundle)
    assert match_rate(tmp_path / "lenient", "--margin", 0) == strict < 1.0


@pytest.mark.slow
def test_recalibrate_writes_a_bundle_that_serves(turnout: Turnout, training_run: TrainingRun, tmp_path: Path):
    log, out = tmp_path / "fresh.jsonl", tmp_path / "recalibrated"
    write_sample(log, 180, seed=22)
    with light_run():
        ended = turnout("recalibrate", training_run.bundle, log, "--out", out, "--no-cache", "--quiet", "--json")
    result = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert result["parent"] == training_run.trained.manifest.bundle_id
    assert result["metrics"]["n"] + result["n_seen_in_training"] == 180
    verified = turnout("bundle", "verify", out)
    assert (verified.code, verified.out.split(":")[0]) == (0, result["bundle_id"])
    again = turnout("recalibrate", out, log, "--out", tmp_path / "again", "--no-cache", "--quiet")
    assert again.code == 1
    assert "180 rows were seen in its training" in again.err


def test_retrain_ends_with_5_while_there_is_too_little_to_compare_on(
    turnout: Turnout, training_run: TrainingRun, log: Path, tmp_path: Path
):
    version = tmp_path / "models" / "router" / "1"
    shutil.copytree(training_run.bundle, version)
    (version.parent / "CURRENT").write_text("1\n")
    words = ("retrain", "--logs", log, "--champion", version.parent, "--quiet")
    ended = turnout(*words)
    assert (ended.code, ended.out, ended.err.count("\n")) == (5, "", 1)
    assert "expected at least 1000; log more requests" in ended.err
    (version.parent / "CURRENT").unlink()
    refused = turnout(*words)
    assert (refused.code, refused.err.count("\n")) == (3, 1)
    assert "turnout models promote" in refused.err
    assert turnout(*words, "--task-bound", "maths").code == 2
