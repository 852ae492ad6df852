"""Reading: rows to learn from, out of logs, of files of features, or of decision logs without text.

Comes in: what the operator named. Goes out: `Loaded`; of files of features and of digests with their `FeatureTable`, so
that nothing is left to be embedded. Their records hold no prompt, no answer and no reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rensa import RMinHash

from turnout.serving.bundles.manifest import Pair
from turnout.serving.router.answer_features import SIGNALS
from turnout.serving.router.checker import Ngrams
from turnout.serving.router.features import SCHEMA_VERSION, Featurizer
from turnout.serving.router.prompt import Prompt
from turnout.training.dataset.dataset import Loaded, dataset_of, load_dataset, usable_rows
from turnout.training.dataset.digests.making import Making
from turnout.training.dataset.digests.rows import load_digests
from turnout.training.dataset.digests.table import are_digests
from turnout.training.dataset.features.schema import (
    ANSWER_FIELDS,
    FEATURE_COLUMNS,
    ROW_COLUMNS,
    FeatureOrigin,
    feature_origin,
    refuse_features,
)
from turnout.training.dataset.features.table import answers_in, feature_table
from turnout.training.dataset.features.ties import group_digests
from turnout.training.dataset.measures import PromptMeasures
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.labels import Labelled
from turnout.training.labels.ledger import LABEL_SCHEMA
from turnout.training.labels.stored import decision_in, origin_in
from turnout.training.logs.read import ReadResult
from turnout.training.logs.reading import Reading
from turnout.training.logs.records import Record, Response
from turnout.training.logs.stored_files import LogFile
from turnout.training.progress import Reporter

_LIGHT = [*LABEL_SCHEMA.names, *(name for name, _ in ROW_COLUMNS)]
ANSWER_NAMES = [field.name for field in ANSWER_FIELDS]
_SIGNAL_NAMES = ["answer_signals", "weak_latency_ms", "strong_latency_ms"]


def load_rows(
    paths: Sequence[LogFile],
    pair: Pair,
    reading: Reading,
    margin: float,
    encoder: EncoderModel,
    harness_rules: int,
    reporter: Reporter,
) -> Loaded:
    """Return rows to learn from, out of logs, of files of features or of decision logs without text.

    Raises:
        DataRefused: as `load_dataset` and `load_digests`; or features were made by another encoder, by other rules, for
            another pair or with another margin; or files of one kind stand beside others.
    """
    if are_digests(paths):
        return load_digests(paths, pair, reading, margin, Making.of_encoder(encoder, harness_rules), reporter)
    origins = [feature_origin(path) for path in paths]
    if not any(origins):
        return load_dataset(paths, pair, reading, margin, reporter, harness_rules)
    known = [origin for origin in origins if origin is not None]
    if len(known) < len(paths):
        refuse_features(paths)
    if reading.labels is not None:
        raise DataRefused(f"{reading.labels}: --labels is for logs; {paths[0]} holds its own labels")
    for path, origin in zip(paths, known, strict=True):
        _check_origin(path, origin, known[0], encoder, harness_rules)
    with reporter.stage("Reading features"):
        tables = [_read(path, pair, margin) for path in paths]
    ngrams = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens, harness_rules).ngrams
    return _loaded(paths, tables, known[0].salt, reading, reporter, ngrams)


def _check_origin(
    path: LogFile, origin: FeatureOrigin, first: FeatureOrigin, encoder: EncoderModel, harness_rules: int
) -> None:
    if origin.encoder_sha256 != encoder.card.sha256:
        raise DataRefused(
            f"{path}: vectors of {origin.encoder}, SHA-256 {origin.encoder_sha256}; the encoder given is "
            f"{encoder.card.name}, {encoder.card.sha256}; name the same by --encoder, or label again"
        )
    expected = {
        "tokenizer_sha256": hashlib.sha256(encoder.tokenizer_json).hexdigest(),
        "feature_schema": SCHEMA_VERSION,
        "minhash": RMinHash.ALGORITHM_VERSION,
    }
    for name, value in expected.items():
        if getattr(origin, name) != value:
            raise DataRefused(f"{path}: {name} {getattr(origin, name)}, expected {value} here; label again")
    if origin.harness_rules != harness_rules:
        raise DataRefused(
            f"{path}: harness rules of version {origin.harness_rules}, training is to use {harness_rules}; "
            f"give --harness-rules {origin.harness_rules}, or label again"
        )
    if origin.salt != first.salt:
        raise DataRefused(
            f"{path}: another salt than in the first file, so that nobody knows which rows belong together; "
            "label with the same --salt"
        )


def _read(path: LogFile, pair: Pair, margin: float) -> pa.Table:
    """Return the rows of one file; raises `DataRefused` where they are damaged or compare other things."""
    try:
        with path.open("rb") as file:
            table = pq.read_table(file)
        origin = origin_in(table.schema)
        for field in ANSWER_FIELDS:
            if field.name not in table.schema.names:
                table = table.append_column(field, pa.nulls(len(table), field.type))
        table = table.select([*_LIGHT, *FEATURE_COLUMNS, *ANSWER_NAMES])
    except (OSError, pa.ArrowException, KeyError, msgspec.MsgspecError) as error:
        raise DataRefused(f"{path}: not as `turnout label --keep features` writes it: {error}; label again") from error
    if origin.pair != pair:
        raise DataRefused(
            f"{path}: labels compare {origin.pair.strong} and {origin.pair.weak}, and not {pair.strong} and "
            f"{pair.weak}; give --strong and --weak as they were, or label again"
        )
    if origin.margin != margin:
        raise DataRefused(f"{path}: labels were made with --margin {origin.margin}, not {margin}; give the same one")
    return table


def _loaded(
    paths: Sequence[LogFile],
    tables: list[pa.Table],
    salt: str,
    reading: Reading,
    reporter: Reporter,
    ngrams: Ngrams,
) -> Loaded:
    light = [table.select([*_LIGHT, *_SIGNAL_NAMES]).to_pylist() for table in tables]
    rows = [row for table in light for row in table]
    records = [
        _record(row, str(path), number)
        for path, table in zip(paths, light, strict=True)
        for number, row in enumerate(table)
    ]
    labelled = Labelled.of(records, [decision_in(row) for row in rows])
    usable = usable_rows(labelled, reading, reporter)
    number_of = {record.place: number for number, record in enumerate(records)}
    numbers = np.array([number_of[row.record.place] for row in usable], dtype=np.int64)
    kept = [rows[number] for number in numbers]
    file = np.repeat(np.arange(len(tables)), [len(table) for table in light])[numbers]
    with reporter.stage("Grouping near-duplicates"):
        near, signatures = ([row[name] for row in kept] for name in ("near_duplicate_of", "minhash"))
        groups = group_digests([row["keys"] for row in kept], near, signatures, file, salt)
    dataset = dataset_of(usable, groups, reporter, _measures(kept))
    columns = [*FEATURE_COLUMNS, *ANSWER_NAMES]
    features = pa.concat_tables([table.select(columns) for table in tables]).take(pa.array(numbers))
    answers = answers_in(features, ngrams)
    return Loaded(ReadResult(list(records)), labelled, dataset, feature_table(features), answers)


def _record(row: dict[str, Any], path: str, number: int) -> Record:
    """Return the record of a row, whose place is that in the file of features."""
    prompt = Prompt(
        text="",
        turns=row["prompt_turns"] or 1,
        images=row["prompt_images"] or 0,
        tools=row["prompt_tools"] or 0,
        wants_json=bool(row["prompt_wants_json"]),
    )
    strong, weak = (
        Response(
            None,
            row[f"{side}_score"],
            row[f"{side}_prompt_tokens"],
            row[f"{side}_completion_tokens"],
            self_check=_self_check(row) if side == "weak" else None,
            latency_ms=row[f"{side}_latency_ms"],
        )
        for side in ("strong", "weak")
    )
    known = {name: row[name] for name in ("id", "task", "source", "language", "created")}
    propensities = {name: row[name] for name in ("pair_propensity", "route_propensity")}
    return Record(
        **known, **propensities, prompt=prompt, user_text="", strong=strong, weak=weak, file=path, line=number + 1
    )


def _self_check(row: dict[str, Any]) -> float | None:
    """Return the self-check, which was a call of its own and costs."""
    signals = row["answer_signals"]
    return None if signals is None else signals[SIGNALS.index("self_check")]


def _measures(rows: list[dict[str, Any]]) -> PromptMeasures:
    return PromptMeasures(
        np.array([row["prompt_characters"] for row in rows], dtype=np.int64),
        np.array([row["estimated_tokens"] for row in rows], dtype=np.int64),
        [row["language"] for row in rows],
    )
