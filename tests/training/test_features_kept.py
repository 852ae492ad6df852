"""`--keep features`: a file without any text trains the very router that its prompts would have trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.log_builders import gateway_row, write_log
from tests.training.pipelines import GATEWAY_KINDS, found_in_pieces, write_logs
from tests.training.runs import N_BOOTSTRAPS, QUIET, TrainingRun, fewer_candidates, light_run
from turnout.serving.bundles.bundle import CHECKER, GRAPH, SEEN_GROUPS, load_bundle
from turnout.serving.bundles.manifest import Pair
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.cli.label import label_logs
from turnout.training.dataset.dataset import Loaded, load_dataset
from turnout.training.dataset.features.columns import kept_columns
from turnout.training.dataset.features.keep import Keeping
from turnout.training.dataset.features.origin import feature_metadata
from turnout.training.dataset.features.repeats import with_repeats
from turnout.training.dataset.features.schema import FIELDS, METADATA_KEY, FeatureOrigin
from turnout.training.dataset.load import load_rows
from turnout.training.encoders.embeddings import embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.files import write_parquet
from turnout.training.labels import label_records
from turnout.training.labels.ledger import LABEL_SCHEMA, labels_table
from turnout.training.labels.stored import METADATA_KEY as LABELS_KEY
from turnout.training.labels.stored import origin_of
from turnout.training.learn.learn import features_of
from turnout.training.learn.predict import seen_rows
from turnout.training.learn.train import train
from turnout.training.logs.read import read_records
from turnout.training.logs.reading import JoinBy, Reading
from turnout.training.pipeline import flow
from turnout.training.pipeline.engine import Engine

RULES = LATEST_HARNESS_RULES
REMINDER = "\n\n<system-reminder>\nThe plan is still empty.\n</system-reminder>"


def kept(log: Path, out: Path, encoder: EncoderModel, salt: str = "", rules: int = RULES, **options: Any) -> Path:
    keeping = Keeping(encoder.card.name, rules, salt, **options)
    label_logs(
        [log], out, Pair(), Reading(), 0.0, run_code=False, similarity="", quiet=True, as_json=True, keeping=keeping
    )
    return out


def loaded(paths: list[Path], encoder: EncoderModel, rules: int = RULES, **changes: Any) -> Loaded:
    margin, pair = changes.pop("margin", 0.0), changes.pop("pair", Pair())
    return load_rows(paths, pair, replace(Reading(), **changes), margin, encoder, rules, QUIET)


@pytest.fixture(scope="module")
def features(
    training_run: TrainingRun, encoder: EncoderModel, dense_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the features of the log that the shared training run read."""
    out = tmp_path_factory.mktemp("features") / "features.parquet"
    return kept(training_run.log, out, encoder, cache_dir=dense_cache)


def scored(text: str, number: int, **fields: Any) -> dict[str, Any]:
    answers = {Pair().strong: {"content": f"yes {number}", "score": 1.0}, Pair().weak: {"content": "no", "score": 0.0}}
    return gateway_row(text, id=f"row {number}", responses=answers, **fields)


@pytest.mark.slow
def test_training_from_features_alone_gives_the_very_same_router(
    training_run: TrainingRun, features: Path, encoder: EncoderModel, tmp_path: Path
):
    settings = replace(training_run.settings, cache_dir=None, learning_curve=False)
    with fewer_candidates(), light_run(N_BOOTSTRAPS):
        ours = train([features], tmp_path / "bundle", encoder, settings, QUIET)
    theirs = training_run.trained
    assert (tmp_path / "bundle" / GRAPH).read_bytes() == (training_run.bundle / GRAPH).read_bytes()
    assert (tmp_path / "bundle" / CHECKER).read_bytes() == (training_run.bundle / CHECKER).read_bytes()
    assert ours.manifest.policies == theirs.manifest.policies
    assert ours.evaluation.two_looks == theirs.evaluation.two_looks
    assert ours.manifest.metrics == theirs.manifest.metrics
    assert (ours.manifest.training.rows, ours.manifest.training.groups, ours.unlabelled) == (
        theirs.manifest.training.rows,
        theirs.manifest.training.groups,
        theirs.unlabelled,
    )
    assert ours.evaluation.slices == theirs.evaluation.slices
    bundles = load_bundle(tmp_path / "bundle"), load_bundle(training_run.bundle)
    data = load_dataset([training_run.log], Pair(), None, 0.0, QUIET, RULES).dataset
    for row in data.rows[::50]:
        mine, other = (bundle.model.predict(row.record.prompt, 0.5).p_match for bundle in bundles)
        assert mine == pytest.approx(other, abs=1e-5)
    assert seen_rows(bundles[0], data).tolist() == seen_rows(bundles[1], data).tolist()
    assert (tmp_path / "bundle" / SEEN_GROUPS).stat().st_size == (training_run.bundle / SEEN_GROUPS).stat().st_size


def test_rows_groups_and_features_are_those_of_the_prompts(
    training_run: TrainingRun, features: Path, encoder: EncoderModel
):
    ours = loaded([features], encoder)
    theirs = loaded([training_run.log], encoder)
    assert ours.table is not None
    assert theirs.table is None
    assert ours.dataset.groups.group.tolist() == theirs.dataset.groups.group.tolist()
    assert ours.dataset.groups.n_near_duplicates == theirs.dataset.groups.n_near_duplicates
    table = features_of(theirs, encoder, training_run.settings.cache_dir, QUIET, RULES)
    np.testing.assert_array_equal(ours.table.dense, table.dense)
    afresh = embed([one.prompt for one in theirs.dataset.records[::15]], encoder, cache_dir=None, harness_rules=RULES)
    np.testing.assert_array_equal(ours.table.dense[::15], afresh.dense)
    np.testing.assert_array_equal(ours.table.structural, table.structural)
    assert (ours.table.counts != table.counts).nnz == 0


def test_no_text_of_any_row_is_in_the_file(training_run: TrainingRun, features: Path):
    rows = [json.loads(line) for line in training_run.log.read_bytes().splitlines()[:1500]]
    cells = pq.read_table(features)
    plain = pa.BufferOutputStream()
    pq.write_table(cells, plain, compression="none", use_dictionary=False)
    files = features.read_bytes(), plain.getvalue().to_pybytes()
    texts = [message["content"] for row in rows[::50] for message in row["request"]["messages"]]
    texts += [answer["content"] or "" for row in rows[::50] for answer in row["responses"].values()]
    needles = {text[start : start + 16] for text in texts for start in range(0, max(1, len(text) - 16), 16)}
    needles = {needle for needle in needles if len(needle) == 16}
    assert len(needles) > 200
    assert not [needle for needle in needles for content in files if needle.encode() in content]


def test_sessions_and_groups_stand_there_as_salted_digests_only(encoder: EncoderModel, tmp_path: Path):
    rows = [scored(f"What is {number} squared?", number, session_id="session of Ann") for number in range(3)]
    files = [
        kept(write_log(tmp_path / "log.jsonl", rows), tmp_path / f"{salt or 'none'}.parquet", encoder, salt)
        for salt in ("", "pepper")
    ]
    assert not any(b"session of Ann" in path.read_bytes() for path in files)
    keys = [{key for row in pq.read_table(path)["keys"].to_pylist() for key in row} for path in files]
    assert len(keys[0]) == len(keys[1]) == 4
    assert keys[0].isdisjoint(keys[1])


def test_second_run_writes_the_same_bytes(encoder: EncoderModel, tmp_path: Path):
    log = write_log(tmp_path / "log.jsonl", [scored(f"Who is number {number}?", number) for number in range(20)])
    first = kept(log, tmp_path / "first.parquet", encoder)
    assert first.read_bytes() == kept(log, tmp_path / "second.parquet", encoder).read_bytes()


@pytest.fixture(scope="module")
def of_the_whole(encoder: EncoderModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Keeping, bytes]:
    """Return logs of many kinds, what is to be kept of them, and the file that is made of all their rows at once."""
    folder = tmp_path_factory.mktemp("kinds")
    logs = write_logs(folder, [*GATEWAY_KINDS] * 6, ["input", "output"] * 5)
    logs.append(write_log(folder / "similar.jsonl", similar_rows(370)))
    keeping = Keeping(encoder.card.name, RULES)
    expected = kept_in_memory(logs, keeping, encoder)
    assert expected["near_duplicate_of"].null_count < len(expected) - expected["match"].null_count
    assert "agreement:similar" in expected["labeller"].to_pylist()
    write_parquet(folder / "whole.parquet", expected)
    return logs, keeping, (folder / "whole.parquet").read_bytes()


# Daft 0.7.26 does not close the pipes of the processes that it ends.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("n_workers", "block_bytes"), [(1, 1 << 20), pytest.param(2, 15_000, marks=pytest.mark.slow)], ids=["one", "two"]
)
def test_pieces_of_any_size_in_any_process_write_what_is_made_of_the_whole(
    of_the_whole: tuple[list[Path], Keeping, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    n_workers: int,
    block_bytes: int,
):
    monkeypatch.setattr(flow, "SMALL_BYTES", 0)
    logs, keeping, whole = of_the_whole
    engine, how = Engine(n_workers, shares_disk=True), {"similarity": keeping.encoder, "keeping": keeping}
    out = tmp_path / "pieces.parquet"
    assert found_in_pieces(logs, out, Reading(), engine, block_bytes=block_bytes, **how).ledger is not None
    assert out.read_bytes() == whole


def similar_rows(rows: int) -> list[dict[str, Any]]:
    """Return rows of three whose questions nearly repeat each other; the last ten only their answers can label."""
    answers = ("The capital of France is Paris.", "Paris is the capital of France.")
    made = []
    for n in range(rows):
        scores = (1, int(n >= 30)) if n < rows - 10 else (None, None)
        weak = answers[1] if n >= 30 else "Twelve"
        question = (
            f"Which town is the capital of the land that {' '.join(f'w{n // 3}x{k}' for k in range(30))} has {n}?"
        )
        both = {
            model: {"content": text} | ({} if score is None else {"score": score})
            for model, text, score in zip((Pair().strong, Pair().weak), (answers[0], weak), scores, strict=True)
        }
        made.append(gateway_row(question, id=f"s{n}", responses=both))
    return made


def kept_in_memory(logs: list[Path], keeping: Keeping, encoder: EncoderModel) -> pa.Table:
    """Return what `--keep features` holds, made of all rows at once."""
    read, origin = read_records(logs, Pair()).joined(JoinBy.PROMPT), origin_of(logs, Pair(), 0.0)
    found = label_records(read.records, similarity_encoder=encoder)
    salted = keeping.salted(origin.files)
    table = labels_table(read.records, found.decisions)
    for name, column in kept_columns(read.records, salted, encoder).items():
        table = table.append_column(name, column)
    (whole,) = with_repeats(lambda: [table])
    written = whole.select([*LABEL_SCHEMA.names, *(field.name for field in FIELDS)])
    metadata = feature_metadata(salted, encoder) | {LABELS_KEY: msgspec.json.encode(origin)}
    return written.replace_schema_metadata(metadata)


def test_a_log_without_any_label_gives_a_file_without_features(encoder: EncoderModel, tmp_path: Path):
    only_strong = gateway_row("Who?", responses={Pair().strong: {"content": "Ann"}})
    log = write_log(tmp_path / "log.jsonl", [only_strong] * 2)
    with pytest.raises(DataRefused, match="has a label"):  # which is said, and the file is there all the same
        kept(log, tmp_path / "out.parquet", encoder)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.num_rows == table["dense"].null_count == table["keys"].null_count == 2


def test_rows_without_a_label_stand_there_without_features(encoder: EncoderModel, tmp_path: Path):
    only_strong = gateway_row("Who?", responses={Pair().strong: {"content": "Ann"}})
    log = write_log(tmp_path / "log.jsonl", [only_strong, scored("Why?", 1), only_strong])
    table = pq.read_table(kept(log, tmp_path / "out.parquet", encoder))
    assert table["abstained"].to_pylist() == ["only_strong", None, "only_strong"]
    for name in ("dense", "lexical_buckets", "structural", "keys", "prompt_characters"):
        assert [value is None for value in table[name].to_pylist()] == [True, False, True]
    data = loaded([tmp_path / "out.parquet"], encoder)
    assert [row.record.id for row in data.dataset.rows] == ["row 1"]
    assert data.labelled.unlabelled == {"only_strong": 2}


def test_harness_text_ties_no_rows_and_parts_none(encoder: EncoderModel, tmp_path: Path):
    texts = ["Rename it", f"Rename it{REMINDER}", f"Count them{REMINDER}", "Delete all of the files in there"]
    log = write_log(tmp_path / "log.jsonl", [scored(text, number) for number, text in enumerate(texts)])
    groups = [
        loaded([kept(log, tmp_path / f"{rules}.parquet", encoder, rules=rules)], encoder, rules).dataset.groups
        for rules in (0, 1)
    ]
    assert [one.group.tolist() for one in groups] == [[0, 1, 2, 3], [0, 0, 1, 2]]


def test_redacted_features_are_those_of_the_redacted_text(encoder: EncoderModel, tmp_path: Path):
    texts = ["Write to ann@example.org today", "Write to [EMAIL] today"]
    log = write_log(tmp_path / "log.jsonl", [scored(text, number) for number, text in enumerate(texts)])
    found = [
        loaded([kept(log, tmp_path / f"{redacts}.parquet", encoder, redacts=redacts)], encoder).table
        for redacts in (True, False)
    ]
    counts = [(table.counts[0] != table.counts[1]).nnz for table in found if table is not None]
    assert counts[0] == 0 < counts[1]


def test_files_with_one_salt_know_each_others_repetitions(encoder: EncoderModel, tmp_path: Path):
    long = "Please list the stations between the harbour and the old mill in the order in which the train calls there"
    months = [[f"What is {long}?", "Who?"], [f"What is {long}, then?", "Where?", "who? "]]
    files = [
        kept(
            write_log(tmp_path / f"{month}.jsonl", [scored(text, number) for number, text in enumerate(texts)]),
            tmp_path / f"{month}.parquet",
            encoder,
            "of the year",
        )
        for month, texts in enumerate(months)
    ]
    assert loaded(files, encoder).dataset.groups.group.tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encoder_sha256": "0" * 64}, "label again"),
        ({"tokenizer_sha256": "0" * 64}, "tokenizer_sha256"),
        ({"feature_schema": 99}, "feature_schema 99"),
        ({"harness_rules": 0}, "give --harness-rules 0"),
        ({"minhash": 99}, "minhash 99"),
        ({"version": 2}, "upgrade Turnout"),
    ],
)
def test_features_made_otherwise_are_refused(
    features: Path, encoder: EncoderModel, tmp_path: Path, changed: dict[str, Any], message: str
):
    table = pq.read_table(features)
    origin = msgspec.json.decode(table.schema.metadata[METADATA_KEY], type=FeatureOrigin)
    raw = msgspec.json.encode(msgspec.structs.replace(origin, **changed))
    path = tmp_path / "changed.parquet"
    write_parquet(path, table.replace_schema_metadata(table.schema.metadata | {METADATA_KEY: raw}))
    with pytest.raises(DataRefused, match=message) as refused:
        loaded([path], encoder)
    assert str(path) in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"margin": 0.5}, "--margin 0.0"),
        ({"pair": Pair("a", "b")}, "--strong and --weak"),
        ({"labels": Path("labels.parquet")}, "holds its own labels"),
    ],
)
def test_options_that_contradict_the_file_are_refused(
    features: Path, encoder: EncoderModel, changes: dict[str, Any], message: str
):
    with pytest.raises(DataRefused, match=message):
        loaded([features], encoder, **changes)


def test_files_of_different_salts_or_beside_logs_are_refused(
    features: Path, training_run: TrainingRun, encoder: EncoderModel, tmp_path: Path
):
    other = kept(write_log(tmp_path / "log.jsonl", [scored("Why?", 1)]), tmp_path / "other.parquet", encoder)
    with pytest.raises(DataRefused, match="same --salt"):
        loaded([features, other], encoder)
    for paths in ([features, training_run.log], [training_run.log, features]):
        with pytest.raises(DataRefused, match="without logs beside them"):
            loaded(paths, encoder)


def test_commands_that_need_prompts_refuse_features_by_name(features: Path):
    with pytest.raises(DataRefused, match="only `train` and `assess` read features"):
        load_dataset([features], Pair(), None, 0.0, QUIET)
