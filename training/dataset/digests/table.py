"""Table: the rows of compacted decision logs that hold a vector in place of the prompt.

Comes in: files of `turnout logs compact`. Goes out: their rows that can teach, as a table of `COLUMNS`.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from turnout.serving.spool.decision import LogDecisions
from turnout.training.compaction.rows import DECISIONS
from turnout.training.dataset.features.schema import PARQUET_MAGIC
from turnout.training.errors import DataRefused
from turnout.training.logs.stored_files import LogFile

COLUMNS = (
    "id", "created", "tenant", "task", "session_id", "prompt_turns", "prompt_images", "prompt_tools",
    "prompt_wants_json", "estimated_tokens", "route_propensity", "pair_propensity", "responses", "preference",
    "lexical_buckets", "lexical_counts", "structural", "feature_schema", "harness_rules", "dense", "encoder_sha256",
    "tokenizer_sha256", "text_key", "key_salt", "prompt_characters", "prompt_script",
)  # fmt: skip
"""What is read of a row, and kept of it by `turnout retrain`."""

SCHEMA = pa.schema([DECISIONS.field(name) for name in COLUMNS])
_KEPT = "prompt_kept"


def are_digests(paths: Sequence[LogFile]) -> bool:
    """Whether these are decision logs without text; False for all other logs.

    Raises:
        DataRefused: some are and some are not.
    """
    found = {path: _is_digest_log(path) for path in paths}
    if len(set(found.values())) < 2:
        return any(found.values())
    digest, other = (next(path for path, is_digest in found.items() if is_digest is which) for which in (True, False))
    raise DataRefused(
        f"{digest}: a decision log without prompts, and {other} is none; learn from one kind at a time: name the files "
        "since the mode of --log-decisions was changed, or those before"
    )


def refuse_digests(paths: Sequence[LogFile]) -> None:
    """Refuse decision logs without text where prompts are needed; raises `DataRefused`."""
    if found := next((path for path in paths if _is_digest_log(path)), None):
        raise DataRefused(
            f"{found}: a decision log that keeps no prompts, which are needed here; only `train`, `assess` and "
            "`retrain` learn from its vectors, and only without other logs beside it"
        )


def read_teaching(paths: Sequence[LogFile]) -> pa.Table:
    """Return the rows of digest logs that hold a vector, in the order of files and rows.

    Raises:
        DataRefused: a file can't be read, or no row holds a vector.
    """
    tables = [_read(path) for path in paths]
    found = pa.concat_tables([table.filter(pc.is_valid(table["dense"])) for table in tables])
    if not found.num_rows:
        n_rows = sum(table.num_rows for table in tables)
        raise DataRefused(
            f"{paths[0]}: {n_rows} decisions without prompts, none with the vector that training needs instead; only "
            "requests whose caller is asked for both answers bring it: set both, such as 0.02, under [exploration] in "
            "the server's rules; logs of versions before have none"
        )
    return found


def _is_digest_log(path: LogFile) -> bool:
    """Whether a file holds compacted decisions without text; raises `DataRefused` where only some are without."""
    try:
        with path.open("rb") as file:
            if file.read(len(PARQUET_MAGIC)) != PARQUET_MAGIC:
                return False
            file.seek(0)
            parquet = pq.ParquetFile(file)
            if _KEPT not in parquet.schema_arrow.names:
                return False
            kept = set(parquet.read([_KEPT])[_KEPT].unique().to_pylist())
    except (OSError, pa.ArrowException):
        return False  # the reader of logs says what is wrong with it
    if LogDecisions.DIGEST in kept and len(kept) > 1:
        raise DataRefused(f"{path}: some of its rows keep prompts and some do not; compact them into files of one kind")
    return kept == {LogDecisions.DIGEST}


def _read(path: LogFile) -> pa.Table:
    try:
        with path.open("rb") as file:
            parquet = pq.ParquetFile(file)
            table = parquet.read([name for name in COLUMNS if name in parquet.schema_arrow.names])
    except (OSError, pa.ArrowException) as error:
        raise DataRefused(f"{path}: not a readable Parquet file: {error}; restore it or remove it") from error
    for name in COLUMNS:
        if name not in table.column_names:  # of a version before
            table = table.append_column(DECISIONS.field(name), pa.nulls(table.num_rows, DECISIONS.field(name).type))
    return table.select(COLUMNS).cast(SCHEMA)
