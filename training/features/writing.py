"""Writing: features beside the labels of rows that stand in memory.

Comes in: the table of labels, the records and what became of them. Goes out: the table with the columns of
`training.features.schema.FIELDS`. `training.pipeline` writes the same for logs of any size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
import numpy as np
import pyarrow as pa
from rensa import RMinHash

from serving.features import SCHEMA_VERSION
from serving.redaction import RULES_VERSION
from training.encoders import EncoderModel
from training.features.columns import kept_columns
from training.features.keep import Keeping
from training.features.repeats import with_repeats
from training.features.schema import FIELDS, METADATA_KEY, FeatureOrigin
from training.labels import Labelled, Unlabelled
from training.labels.stored import Origin
from training.progress import Reporter
from training.records import Record


def with_features(
    labels: pa.Table,
    records: Sequence[Record],
    found: Labelled,
    origin: Origin,
    keeping: Keeping,
    encoder: EncoderModel,
    reporter: Reporter,
) -> pa.Table:
    """Return the table of labels with the features of every row that has one.

    Args:
        labels: one row a record.
        records: in the order of the rows.
        found: what became of each.
        origin: of the labels.
        keeping: how features are made.
        encoder: the one that it names.
        reporter: what is told of the progress.
    """
    keeping = keeping.salted(origin.files)
    has_label = np.array([not isinstance(made, Unlabelled) for made in found.decisions], dtype=np.bool_)
    kept = [record for record, is_kept in zip(records, has_label, strict=True) if is_kept]
    with reporter.stage("Embedding prompts", len(kept)) as advance:
        columns = pa.table(kept_columns(kept, keeping, encoder, on_progress=advance))
    beside = columns.take(pa.array(np.cumsum(has_label) - 1, mask=~has_label))
    for name in beside.column_names:
        labels = labels.append_column(name, beside[name])
    with reporter.stage("Grouping near-duplicates"):
        (table,) = with_repeats(lambda: [labels])
    written = table.select([*labels.column_names[: -len(columns.column_names)], *(field.name for field in FIELDS)])
    return written.replace_schema_metadata(feature_metadata(keeping, encoder))


def feature_metadata(keeping: Keeping, encoder: EncoderModel) -> dict[bytes, bytes]:
    """Return what the metadata of a file says of its features."""
    origin = FeatureOrigin(
        encoder=encoder.card.name,
        encoder_sha256=encoder.card.sha256,
        tokenizer_sha256=hashlib.sha256(encoder.tokenizer_json).hexdigest(),
        feature_schema=SCHEMA_VERSION,
        harness_rules=keeping.harness_rules,
        salt=keeping.salt,
        minhash=RMinHash.ALGORITHM_VERSION,
        redaction=RULES_VERSION if keeping.redacts else 0,
    )
    return {METADATA_KEY: msgspec.json.encode(origin)}
