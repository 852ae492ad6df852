"""Score tables: what models scored on the prompts of a log, as a long table beside it.

Comes in: Parquet, CSV or JSONL with `source, prompt_id, model, score`, or `id, model, score`. Goes out: `ScoreRow`s.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from turnout.training.errors import DataRefused
from turnout.training.logs.tables import RawRow, read_rows


class ScoreRow(msgspec.Struct, frozen=True):
    """One line of the table; `prompt_id` is the row's own id in the log."""

    prompt_id: str | int
    model: str
    score: float
    source: str | None = None


_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.Decoder(ScoreRow, strict=False).decode


def score_rows(path: Path) -> Iterator[ScoreRow]:
    """Yield the rows of a table; further columns are ignored.

    Raises:
        DataRefused: the file or a row of it can't be read, or a score is outside [0, 1].
    """
    for raw in read_rows(path):
        yield _score_row(raw, path)


def _score_row(raw: RawRow, path: Path) -> ScoreRow:
    try:
        if raw.reason:
            raise DataRefused(f"{path}, line {raw.line}: {raw.reason}; every row of a score table must be readable")
        fields = raw.fields if "prompt_id" in raw.fields else {**raw.fields, "prompt_id": raw.fields.get("id")}
        row = _decode(_encode({name: fields[name] for name in ScoreRow.__struct_fields__ if name in fields}))
    except msgspec.MsgspecError as error:
        raise DataRefused(
            f"{path}, line {raw.line}: expected source, prompt_id, model and a number score, got: {error}"
        ) from error
    if not 0.0 <= row.score <= 1.0:
        raise DataRefused(f"{path}, line {raw.line}: expected a score from 0 to 1, got {row.score}; scale it")
    return row
