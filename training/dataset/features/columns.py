"""Columns: what `--keep features` writes of a row, as far as the row by itself tells it.

Comes in: records that have a label, or may get one. Goes out: the columns of
`training.dataset.features.schema.MADE_FIELDS`. Prompts are embedded as in training, one by one; which row repeats
which, `training.dataset.features.repeats` finds later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.serving.router.prompt import Prompt
from turnout.serving.router.redaction import redact
from turnout.serving.router.ties import key_digest
from turnout.training.dataset.costs import tokens_of
from turnout.training.dataset.features.keep import Keeping
from turnout.training.dataset.features.schema import ROW_COLUMNS, SHINGLES, TIES
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
    return _row_columns(records, texts, keeping.salt) | _feature_columns(table) | shingles


def _redacted(prompt: Prompt) -> Prompt:
    return replace(prompt, text=redact(prompt.text))


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


def _rows(matrix: NDArray[np.float32]) -> pa.Array:
    n, width = matrix.shape
    return _lists(np.arange(n + 1) * width, matrix.ravel())


def _shingle_column(rows: Sequence[Hashes]) -> pa.Array:
    return _lists(np.cumsum([0, *(row.size for row in rows)]), np.concatenate([*rows, np.empty(0, np.uint64)]))


def _lists(ends: NDArray[Any], values: NDArray[Any]) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), pa.array(values))
