"""Columns: what `--keep features` writes of a row, as far as the row by itself tells it.

Comes in: records that have a label, or may get one. Goes out: the columns of
`training.dataset.features.schema.MADE_FIELDS`. Prompts are embedded as in training, one by one; which row repeats
which, `training.dataset.features.repeats` finds later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.serving.router.features import Featurizer
from turnout.serving.router.prompt import Prompt
from turnout.serving.router.redaction import redact
from turnout.serving.router.ties import key_digest
from turnout.training.dataset.answers import Answers
from turnout.training.dataset.costs import tokens_of
from turnout.training.dataset.features.keep import Keeping
from turnout.training.dataset.features.schema import ANSWER_FIELDS, ROW_COLUMNS, SHINGLES, TIES
from turnout.training.dataset.measures import PromptMeasures
from turnout.training.dataset.shingles import Hashes, shingle_hashes
from turnout.training.dataset.splits import group_keys, user_texts
from turnout.training.encoders.embeddings import FeatureTable, embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.logs.records import Record

TOKEN_COLUMNS = (
    "strong_prompt_tokens",
    "strong_completion_tokens",
    "weak_prompt_tokens",
    "weak_completion_tokens",
)


def kept_columns(
    records: Sequence[Record],
    keeping: Keeping,
    encoder: EncoderModel,
    *,
    n_threads: int | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> dict[str, pa.Array]:
    """Return the columns of n rows.

    Args:
        records: the rows.
        keeping: how features are made, with its salt.
        encoder: the one that it names.
        n_threads: threads that embed; all cores when None.
        on_progress: called with the number of prompts just embedded.
    """
    prompts = [_redacted(record.prompt) if keeping.redacts else record.prompt for record in records]
    table = embed(
        prompts,
        encoder,
        cache_dir=keeping.cache_dir,
        harness_rules=keeping.harness_rules,
        n_threads=n_threads,
        on_progress=on_progress,
    )
    texts = user_texts(records, keeping.harness_rules)
    shingles = {SHINGLES.name: _shingle_column(list(shingle_hashes(texts)))}
    answered = _answer_columns(records, prompts, keeping, encoder)
    return _row_columns(records, texts, keeping.salt) | _feature_columns(table) | answered | shingles


def _redacted(prompt: Prompt) -> Prompt:
    return msgspec.structs.replace(prompt, text=redact(prompt.text))


def _row_columns(records: Sequence[Record], texts: Sequence[str], salt: str) -> dict[str, pa.Array]:
    measures = PromptMeasures.of(records)
    tokens = [tokens_of(record) or ((None, None), (None, None)) for record in records]
    counted = zip(*(strong + weak for strong, weak in tokens), strict=True) if tokens else ((),) * len(TOKEN_COLUMNS)
    values: dict[str, Sequence[Any]] = {
        **{
            name: [getattr(record, name) for record in records]
            for name in ("task", "source", "created", "pair_propensity", "route_propensity")
        },
        **{
            f"prompt_{name}": [getattr(record.prompt, name) for record in records]
            for name in ("turns", "images", "tools", "wants_json")
        },
        **dict(zip(TOKEN_COLUMNS, counted, strict=True)),
        "keys": [
            [key_digest(key, salt) for key in group_keys(record, text)]
            for record, text in zip(records, texts, strict=True)
        ],
        "language": measures.language,
        "prompt_characters": measures.characters.tolist(),
        "estimated_tokens": measures.tokens.tolist(),
    }
    return {name: pa.array(values[name], kind) for name, kind in ROW_COLUMNS if name not in TIES}


def _feature_columns(table: FeatureTable) -> dict[str, pa.Array]:
    counts = table.counts
    return {
        "dense": _rows(table.dense),
        "lexical_buckets": _lists(counts.indptr, counts.indices.astype(np.uint32)),
        "lexical_counts": _lists(counts.indptr, counts.data.astype(np.uint16)),
        "structural": _rows(table.structural),
    }


def _answer_columns(
    records: Sequence[Record], prompts: Sequence[Prompt], keeping: Keeping, encoder: EncoderModel
) -> dict[str, pa.Array]:
    read = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens, keeping.harness_rules).ngrams
    ours = [replace(record, prompt=prompt) for record, prompt in zip(records, prompts, strict=True)]
    found = Answers.of([_redacted_answer(record) for record in ours] if keeping.redacts else ours, read)
    places = {row: place for place, row in enumerate(found.place.tolist())}
    order = [places.get(row) for row in range(len(records))]

    def column(name: str, values: Callable[[int], Any]) -> pa.Array:
        kind = next(field.type for field in ANSWER_FIELDS if field.name == name)
        return pa.array([None if place is None else values(place) for place in order], kind)

    counts = found.rows.counts
    return {
        "answer_buckets": column("answer_buckets", lambda place: counts[place].indices.tolist()),
        "answer_counts": column("answer_counts", lambda place: counts[place].data.astype(np.uint16).tolist()),
        "answer_structure": column("answer_structure", lambda place: found.rows.structure[place].tolist()),
        "answer_signals": column("answer_signals", lambda place: _known(found.rows.signals[place])),
        "answer_shape": column("answer_shape", lambda place: int(found.rows.shape[place])),
        "weak_latency_ms": pa.array([record.weak and record.weak.latency_ms for record in records], pa.float64()),
        "strong_latency_ms": pa.array([record.strong and record.strong.latency_ms for record in records], pa.float64()),
    }


def _redacted_answer(record: Record) -> Record:
    if record.weak is None or record.weak.content is None:
        return record
    return replace(record, weak=replace(record.weak, content=redact(record.weak.content)))


def _rows(matrix: NDArray[np.float32]) -> pa.Array:
    n, width = matrix.shape
    return _lists(np.arange(n + 1) * width, matrix.ravel())


def _shingle_column(rows: Sequence[Hashes]) -> pa.Array:
    return _lists(np.cumsum([0, *(row.size for row in rows)]), np.concatenate([*rows, np.empty(0, np.uint64)]))


def _lists(ends: NDArray[Any], values: NDArray[Any]) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), pa.array(values))


def _known(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
