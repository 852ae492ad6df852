"""Writing: the columns of `training.features.schema`, from records that have a label.

Comes in: the table of labels, the records and what became of them. Goes out: the table with features beside the
labels. Prompts are embedded as in training, one by one, and grouped as training groups them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rensa import RMinHash

from serving.features import SCHEMA_VERSION
from serving.prompt import Prompt
from serving.redaction import RULES_VERSION, redact
from training.costs import tokens_of
from training.embeddings import FeatureTable, embed
from training.features.keep import Keeping
from training.features.schema import METADATA_KEY, ROW_COLUMNS, FeatureOrigin
from training.labels import Labelled, Unlabelled
from training.labels.stored import Origin
from training.measures import PromptMeasures
from training.near_duplicates import NONE, repeated_rows, signatures
from training.progress import Reporter
from training.records import Record
from training.shingles import shingle_file, shingle_hashes
from training.splits import group_keys, key_digest, user_texts
from training.templates import find_templates

TOKEN_COLUMNS = (
    "strong_prompt_tokens",
    "strong_completion_tokens",
    "weak_prompt_tokens",
    "weak_completion_tokens",
)


def salt_of(origin: Origin) -> str:
    """Return a salt that the same logs give again, so that a second run writes the same file."""
    return hashlib.sha256("\n".join(sorted(origin.files.values())).encode()).hexdigest()[:32]


def with_features(
    labels: pa.Table, records: Sequence[Record], found: Labelled, origin: Origin, keeping: Keeping, reporter: Reporter
) -> pa.Table:
    """Return the table of labels with the features of every row that has one.

    Args:
        labels: one row a record.
        records: in the order of the rows.
        found: what became of each.
        origin: of the labels.
        keeping: how features are made.
        reporter: what is told of the progress.
    """
    has_label = [not isinstance(made, Unlabelled) for made in found.decisions]
    kept = [record for record, is_kept in zip(records, has_label, strict=True) if is_kept]
    salt = keeping.salt or salt_of(origin)
    with reporter.stage("Embedding prompts", len(kept)) as advance:
        prompts = [_redacted(record.prompt) if keeping.redacts else record.prompt for record in kept]
        features = embed(
            prompts,
            keeping.encoder,
            cache_dir=keeping.cache_dir,
            harness_rules=keeping.harness_rules,
            on_progress=advance,
        )
    with reporter.stage("Grouping near-duplicates"):
        columns = _row_columns(kept, keeping.harness_rules, salt) | _feature_columns(features)
    number = np.cumsum(has_label) - 1
    of_row = pa.array(number, mask=~np.array(has_label, dtype=bool))
    beside = pa.table(columns).take(of_row)
    for name in beside.column_names:
        labels = labels.append_column(name, beside[name])
    return labels.replace_schema_metadata({METADATA_KEY: msgspec.json.encode(_origin(keeping, salt))})


def _origin(keeping: Keeping, salt: str) -> FeatureOrigin:
    encoder = keeping.encoder
    return FeatureOrigin(
        encoder=encoder.card.name,
        encoder_sha256=encoder.card.sha256,
        tokenizer_sha256=hashlib.sha256(encoder.tokenizer_json).hexdigest(),
        feature_schema=SCHEMA_VERSION,
        harness_rules=keeping.harness_rules,
        salt=salt,
        minhash=RMinHash.ALGORITHM_VERSION,
        redaction=RULES_VERSION if keeping.redacts else 0,
    )


def _redacted(prompt: Prompt) -> Prompt:
    return replace(prompt, text=redact(prompt.text))


def _row_columns(records: Sequence[Record], harness_rules: int, salt: str) -> dict[str, pa.Array]:
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
        **_ties(records, user_texts(records, harness_rules), salt),
        "language": measures.language,
        "prompt_characters": measures.characters.tolist(),
        "estimated_tokens": measures.tokens.tolist(),
    }
    return {name: pa.array(values[name], kind) for name, kind in ROW_COLUMNS}


def _ties(records: Sequence[Record], texts: Sequence[str], salt: str) -> dict[str, Sequence[Any]]:
    """Return what ties rows to each other, as digests and signatures."""
    keys = [
        [key_digest(key, salt) for key in group_keys(record, text)] for record, text in zip(records, texts, strict=True)
    ]
    with shingle_file() as shingles:
        shingles.add(shingle_hashes(texts))
        templates = find_templates(shingles)
        earlier = repeated_rows(shingles, templates).tolist()
        minhash = [one for some in signatures(shingles, templates) for one in some.as_bytes()]
    return {
        "keys": keys,
        "near_duplicate_of": [None if other == NONE else keys[other][0] for other in earlier],
        "minhash": minhash,
    }


def _feature_columns(table: FeatureTable) -> dict[str, pa.Array]:
    offsets = pa.array(table.counts.indptr, pa.int64())
    return {
        "dense": _lists(table.dense),
        "lexical_buckets": pa.LargeListArray.from_arrays(offsets, pa.array(table.counts.indices.astype(np.uint32))),
        "lexical_counts": pa.LargeListArray.from_arrays(offsets, pa.array(table.counts.data.astype(np.uint16))),
        "structural": _lists(table.structural),
    }


def _lists(matrix: NDArray[np.float32]) -> pa.Array:
    """Return a row a list; not lists of fixed size, which Parquet does not give back where some rows are null."""
    n, width = matrix.shape
    return pa.LargeListArray.from_arrays(pa.array(np.arange(n + 1) * width), pa.array(matrix.ravel(), pa.float32()))
