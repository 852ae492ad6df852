"""Messages: what goes to a worker and what comes back, as bytes, so that no engine has to understand rows.

Comes in and goes out: msgpack. Daft carries one binary column each way: it turns a wrongly typed result into nulls
without a word, and would be asked to hold our rows in a schema of its own.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from turnout.training.logs.lines import Block
from turnout.training.logs.parts import Place
from turnout.training.logs.readers import Entry
from turnout.training.logs.records import Record
from turnout.training.logs.stored_files import URL, LogFile, StoredFile
from turnout.training.logs.tables import FileKind


class Stage(StrEnum):
    """When rows that others complete are put together, in this order."""

    PARTS = "parts"
    """Requests with the answers that stand in rows of their own."""
    SCORES = "scores"
    """Records with the scores that stand in rows of their own."""
    JOIN = "join"
    """The two models' answers to one request."""


class LogToSurvey(msgspec.Struct, frozen=True, tag=True):
    """A file that nobody has looked into; `number` is its place among the files."""

    number: int
    path: str


class Stretch(msgspec.Struct, frozen=True, tag=True):
    """Part of a file, to be read; `number` is its place among all stretches, `form` the name of the file's form."""

    number: int
    file: int
    path: str
    kind: FileKind
    form: str
    block: Block


class Bucket(msgspec.Struct, frozen=True, tag=True):
    """Rows whose keys fall together, to be put together: in a file, or here where workers don't see our disk.

    Attributes:
        score_name: of the scores that count.
    """

    number: int
    stage: Stage
    path: str
    content: bytes = b""
    score_name: str = ""


Unit = LogToSurvey | Stretch | Bucket


class Survey(msgspec.Struct, frozen=True):
    """What a look at a file shows.

    Attributes:
        kind: how its rows are to be got at.
        form: name of the form of its rows.
        sha256: of its bytes, in hex.
        blocks: it is read in these.
        n_bytes: of the decompressed text, or of the file where it is not read as text.
    """

    kind: FileKind
    form: str
    sha256: str
    blocks: list[Block]
    n_bytes: int


class Piece(msgspec.Struct):
    """What became of a unit.

    Attributes:
        number: of the unit.
        refused: why the whole run ends; empty otherwise.
        survey: of a file.
        rows: finished rows (`training.pipeline.rows.SCHEMA`), sorted by place, as an Arrow stream; empty without any.
        questions: those that judges may be asked about, with their texts (`training.pipeline.judged.SCHEMA`), the same.
        n_entries: requests, or parts of one, that were read.
        held: pickled lists of `HeldRow`, by stage and number of the bucket.
        odd_fields: fields that rows lost, by name.
        other_models: models other than the pair's whose answers rows hold.
        columns, other_pairs, n_others, kinds, n_sampled: what `turnout.training.logs.entries.Seen` holds.
        score_names: of scores.
    """

    number: int
    refused: str = ""
    survey: Survey | None = None
    rows: bytes = b""
    questions: bytes = b""
    n_entries: int = 0
    held: dict[Stage, dict[int, bytes]] = {}
    columns: list[str] = []
    other_pairs: dict[str, int] = {}
    n_others: int = 0
    score_names: list[str] = []
    kinds: dict[str, int] = {}
    n_sampled: int = 0
    odd_fields: dict[str, int] = {}
    other_models: dict[str, int] = {}


HeldRow = tuple[Place, Record | Entry]
"""A row that waits for another, with its place."""

encode = msgspec.msgpack.Encoder().encode
decode_unit = msgspec.msgpack.Decoder(Unit).decode
decode_piece = msgspec.msgpack.Decoder(Piece).decode


def log_file(path: str) -> LogFile:
    """Return the file that a message names."""
    return StoredFile(path) if URL.match(path) else Path(path)
