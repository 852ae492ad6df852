"""Digests: logs without text give the rows, groups, features and router that the same prompts give, or say why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.log_builders import gateway_row, write_log
from tests.training.crossfitted import fit_calibrated
from tests.training.digest_logs import decision_log, unlike_texts
from tests.training.runs import QUIET, TrainingRun
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.manifest import Pair
from turnout.serving.router.features import SCHEMA_VERSION
from turnout.training.dataset.dataset import Loaded, load_dataset
from turnout.training.dataset.load import load_rows
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.fit.fit import FitSettings, outcome_classes
from turnout.training.fit.router import FittedRouter
from turnout.training.learn.learn import features_of
from turnout.training.logs.reading import Reading
from turnout.training.progress import Reporter

N = 240
RULES = 1


@pytest.fixture(scope="module")
def champion(training_run: TrainingRun) -> Bundle:
    return load_bundle(training_run.bundle)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Return texts of which some come again, in capitals, a word longer, or in harness text."""
    made = unlike_texts(N)
    again = [made[3].upper(), f"{made[5]} today", f"{made[8]}\n<system-reminder>\nplan\n</system-reminder>"]
    return [*made, *again, "the last one shares its session with the first"]


@pytest.fixture(scope="module")
def logs(champion: Bundle, texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Return the same decisions, logged in full and as digests."""
    folder, sessions = tmp_path_factory.mktemp("logs"), [f"s{number}" for number in range(len(texts) - 1)] + ["s0"]
    return {
        mode: decision_log(folder / mode, champion, texts, mode, session_id=sessions) for mode in ("full", "digest")
    }


def loaded(paths: list[Path], encoder: EncoderModel, rules: int = RULES, **changes: Any) -> Loaded:
    reporter = changes.pop("reporter", QUIET)
    return load_rows(paths, Pair(), replace(Reading(), **changes), 0.0, encoder, rules, reporter)


def changed(path: Path, out: Path, **columns: Any) -> Path:
    """Write the log again, some columns filled with one value, or with a list of them."""
    table = pq.read_table(path)
    for name, value in columns.items():
        values = value if isinstance(value, list) else [value] * table.num_rows
        index, field = table.schema.get_field_index(name), table.schema.field(name)
        table = table.set_column(index, field, pa.array(values, field.type))
    pq.write_table(table, out)
    return out


def test_rows_groups_and_features_are_those_of_the_prompts(logs: dict[str, list[Path]], encoder: EncoderModel):
    ours, theirs = (loaded(logs[mode], encoder) for mode in ("digest", "full"))
    assert len(ours.dataset.rows) == len(theirs.dataset.rows) == N + 4
    assert ours.dataset.groups.group.tolist() == theirs.dataset.groups.group.tolist()
    assert ours.dataset.groups.n_groups == N
    for name in ("match", "strong_score", "weak_score", "weight"):
        np.testing.assert_array_equal(getattr(ours.dataset, name), getattr(theirs.dataset, name))
    assert set(ours.dataset.weight) == {2.0}
    table = features_of(theirs, encoder, None, QUIET, RULES)
    assert ours.table is not None
    np.testing.assert_array_equal(ours.table.dense, table.dense)
    np.testing.assert_array_equal(ours.table.structural, table.structural)
    assert (ours.table.counts != table.counts).nnz == 0


@pytest.mark.slow
def test_router_learned_without_text_is_the_one_that_the_prompts_teach(
    logs: dict[str, list[Path]], encoder: EncoderModel
):
    def fitted(found: Loaded, table: FeatureTable) -> FittedRouter:
        data = found.dataset
        classes = outcome_classes(data.match, data.strong_score, data.weak_score)
        return fit_calibrated(table, classes, data.match, data.groups.group, FitSettings(), weight=data.weight)

    ours, theirs = (loaded(logs[mode], encoder) for mode in ("digest", "full"))
    table = features_of(theirs, encoder, None, QUIET, RULES)
    assert ours.table is not None
    routers = fitted(ours, ours.table), fitted(theirs, table)
    said = [one.cascade(one.log_odds(table), 0.5).p_match for one in routers]
    assert said[0] == pytest.approx(said[1], abs=1e-5)


def test_records_hold_no_text_and_measures_speak_of_it(
    logs: dict[str, list[Path]], texts: list[str], encoder: EncoderModel
):
    data = loaded(logs["digest"], encoder).dataset
    assert {(one.prompt.text, one.user_text) for one in data.records} == {("", "")}
    assert data.measures is not None
    assert data.measures.characters.tolist() == [len(text) for text in texts]
    assert set(data.measures.language) == {"Latin script"}
    assert [one.id for one in data.records[:2]] == ["r0", "r1"]


def test_logs_with_and_without_text_together_are_refused(logs: dict[str, list[Path]], encoder: EncoderModel, tmp_path):
    with pytest.raises(DataRefused, match=r"without prompts, and .* is none; learn from one kind at a time"):
        loaded([*logs["full"], *logs["digest"]], encoder)
    (digest,) = logs["digest"]
    kinds = ["digest"] * (N + 3) + ["full"]
    with pytest.raises(DataRefused, match="some of its rows keep prompts and some do not"):
        loaded([changed(digest, tmp_path / "both.parquet", prompt_kept=kinds)], encoder)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("encoder_sha256", "0" * 64, "hold another encoder's vectors .*; name theirs by --encoder"),
        ("tokenizer_sha256", "0" * 64, "another tokenizer's counts"),
        ("feature_schema", SCHEMA_VERSION + 1, "features of another version"),
        ("harness_rules", 0, r"other harness rules \(harness_rules 0, not 1\); .*--harness-rules"),
    ],
)
def test_rows_of_another_making_are_refused_and_among_others_left_out(
    logs: dict[str, list[Path]], encoder: EncoderModel, tmp_path: Path, column: str, value: Any, message: str
):
    (digest,) = logs["digest"]
    with pytest.raises(DataRefused, match=message):
        loaded([changed(digest, tmp_path / "all.parquet", **{column: value})], encoder)
    own = pq.read_table(digest)[column].to_pylist()
    some = changed(digest, tmp_path / "some.parquet", **{column: [value] * 10 + own[10:]})
    assert len(loaded([some], encoder).dataset.rows) == N - 6


def test_rows_under_the_salt_of_few_are_left_out_and_said(
    logs: dict[str, list[Path]], champion: Bundle, encoder: EncoderModel, tmp_path: Path, capsys
):
    (digest,) = logs["digest"]
    salts = ["other"] * 4 + [champion.manifest.training.group_salt] * N
    found = loaded([changed(digest, tmp_path / "some.parquet", key_salt=salts)], encoder, reporter=Reporter())
    assert found.dataset.groups.salt == champion.manifest.training.group_salt
    assert len(found.dataset.rows) == N
    assert "4 rows hold digests under another bundle's salt" in " ".join(capsys.readouterr().err.split())


def test_log_without_vectors_is_refused_with_what_to_set(logs: dict[str, list[Path]], encoder: EncoderModel, tmp_path):
    (digest,) = logs["digest"]
    with pytest.raises(DataRefused, match=r"244 decisions without prompts, none with the vector .* \[exploration\]"):
        loaded([changed(digest, tmp_path / "none.parquet", dense=None)], encoder)
    table = pq.read_table(digest)
    older = table.select([name for name in table.column_names if name not in ("dense", "text_key", "encoder_sha256")])
    pq.write_table(older, tmp_path / "older.parquet")
    with pytest.raises(DataRefused, match="logs of versions before have none"):
        loaded([tmp_path / "older.parquet"], encoder)


def test_log_without_outcomes_is_refused_and_says_what_a_label_needs(
    logs: dict[str, list[Path]], encoder: EncoderModel, tmp_path: Path
):
    (digest,) = logs["digest"]
    with pytest.raises(DataRefused, match=r"no row has a label \(no_answer 244\)"):
        loaded([changed(digest, tmp_path / "none.parquet", responses=None)], encoder)


def test_commands_that_need_prompts_refuse_digests_by_name(logs: dict[str, list[Path]], champion: Bundle):
    with pytest.raises(DataRefused, match="keeps no prompts, which are needed here"):
        load_dataset(logs["digest"], champion.manifest.pair, None, 0.0, QUIET)


def test_labels_from_a_file_are_refused(logs: dict[str, list[Path]], encoder: EncoderModel, tmp_path: Path):
    with pytest.raises(DataRefused, match="--labels is for logs with prompts"):
        loaded(logs["digest"], encoder, labels=tmp_path / "labels.parquet")


def test_other_logs_are_no_digests(encoder: EncoderModel, tmp_path: Path):
    row = gateway_row(id="a", responses={"gpt-4o": {"score": 1.0}, "gpt-4o-mini": {"score": 0.0}})
    assert loaded([write_log(tmp_path / "log.jsonl", [row])], encoder).table is None
