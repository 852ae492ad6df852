"""Schema: what a file of labels with features holds, and how such files are told from logs.

The columns of `training.labels.ledger.LABEL_SCHEMA`, then those below, which are null in rows without a label. Lexical
and structural columns have the names and meanings that they have in compacted decision logs (`training.compaction`).
No column holds text of a prompt, an answer or a reference.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from turnout.training.errors import DataRefused
from turnout.training.logs.stored_files import LogFile

METADATA_KEY = b"turnout.features"
FORMAT_VERSION = 1
PARQUET_MAGIC = b"PAR1"


class FeatureOrigin(msgspec.Struct, frozen=True):
    """How the features of a file were made, kept in its metadata; training with anything else is refused.

    Attributes:
        encoder: its name, for messages.
        encoder_sha256, tokenizer_sha256: of the files that made vectors and counts.
        feature_schema: version of lexical and structural part (`turnout.serving.router.features`).
        harness_rules: version of the rules by which prompts lost their harness text (`turnout.serving.router.harness`).
        salt: of the digests; that of the bundle's, so that a bundle knows its rows in later logs.
        minhash: version of the algorithm of the signatures.
        redaction: version of the rules by which prompts were redacted; 0 where they were not.
        version: of this format.
    """

    encoder: str
    encoder_sha256: str
    tokenizer_sha256: str
    feature_schema: int
    harness_rules: int
    salt: str
    minhash: int
    redaction: int = 0
    version: int = FORMAT_VERSION


ROW_COLUMNS = [
    ("task", pa.string()),
    ("source", pa.string()),
    ("language", pa.string()),  # or the writing system, where the log names no language
    ("created", pa.float64()),
    ("pair_propensity", pa.float64()),
    ("route_propensity", pa.float64()),
    ("prompt_characters", pa.int64()),
    ("estimated_tokens", pa.int64()),
    ("prompt_turns", pa.int32()),
    ("prompt_images", pa.int32()),
    ("prompt_tools", pa.int32()),
    ("prompt_wants_json", pa.bool_()),
    ("strong_prompt_tokens", pa.int64()),  # logged, or estimated where one of the four was not
    ("strong_completion_tokens", pa.int64()),
    ("weak_prompt_tokens", pa.int64()),
    ("weak_completion_tokens", pa.int64()),
    ("keys", pa.list_(pa.binary(8))),  # digests of user text, group and session
    ("near_duplicate_of", pa.binary(8)),  # digest of an earlier row's user text
    ("minhash", pa.binary()),  # signature of the user text, uint32 little-endian; null without shingles
]
FEATURE_COLUMNS = ("dense", "lexical_buckets", "lexical_counts", "structural")
TIES = ("near_duplicate_of", "minhash")
"""What is known of a row only when all have been seen: from the column `SHINGLES`, which is not written."""
SHINGLES = pa.field("shingles", pa.large_list(pa.uint64()))

ANSWER_FIELDS = [
    pa.field("answer_buckets", pa.large_list(pa.uint32())),  # of the weak model's answer; null in rows without one
    pa.field("answer_counts", pa.large_list(pa.uint16())),
    pa.field("answer_structure", pa.large_list(pa.float64())),
    pa.field("answer_signals", pa.large_list(pa.float64())),  # null for one that did not come
    pa.field("answer_shape", pa.int8()),
    pa.field("weak_latency_ms", pa.float64()),
    pa.field("strong_latency_ms", pa.float64()),
]
"""What a second look learns from; files of before lack these columns, and give bundles without one."""

_FEATURE_TYPES = (pa.float32(), pa.uint32(), pa.uint16(), pa.float32())
FIELDS = [
    *(pa.field(name, kind) for name, kind in ROW_COLUMNS),
    # Lists of no fixed size, which Parquet does not give back where some rows are null.
    *(pa.field(name, pa.large_list(kind)) for name, kind in zip(FEATURE_COLUMNS, _FEATURE_TYPES, strict=True)),
    *ANSWER_FIELDS,
]
"""The columns beside the labels."""
MADE_FIELDS = [*(field for field in FIELDS if field.name not in TIES), SHINGLES]
"""The columns that a row has by itself."""


def feature_origin(path: LogFile) -> FeatureOrigin | None:
    """Return how the features in a file were made; None where it holds none.

    Raises:
        DataRefused: the file was written by a later version.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(PARQUET_MAGIC)) != PARQUET_MAGIC:
                return None
            file.seek(0)
            raw = (pq.read_schema(file).metadata or {}).get(METADATA_KEY)
        origin = None if raw is None else msgspec.json.decode(raw, type=FeatureOrigin)
    except (OSError, pa.ArrowException):
        return None  # the reader of logs says what is wrong with it
    except msgspec.MsgspecError as error:
        raise DataRefused(f"{path}: its metadata says no origin of features; label again") from error
    if origin is not None and origin.version > FORMAT_VERSION:
        raise DataRefused(
            f"{path}: features of format {origin.version}, this Turnout reads up to {FORMAT_VERSION}; upgrade Turnout"
        )
    return origin


def refuse_features(paths: Sequence[LogFile]) -> None:
    """Refuse files of features where prompts are needed; raises `DataRefused`."""
    if found := next((path for path in paths if feature_origin(path) is not None), None):
        raise DataRefused(
            f"{found}: holds features (`turnout label --keep features`), and prompts are needed here; "
            "only `train` and `assess` read features, and only without logs beside them"
        )
