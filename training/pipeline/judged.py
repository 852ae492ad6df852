"""Judged: the rows that judges may be asked about, kept with their texts until all labels but theirs are known.

Comes in: in a worker, records with what became of them; in the parent, the tables that workers made of these. Goes
out: questions in the order of the logs, read from disk each time, and the rows with the judges' labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from turnout.training.judge.questions import Question, can_be_judged, draw_known
from turnout.training.labels import Decision, Unlabelled, agreement
from turnout.training.logs.parts import Place
from turnout.training.logs.records import Label, Record
from turnout.training.pipeline.duplicates import DIGEST, Duplicates
from turnout.training.pipeline.rows import PLACE
from turnout.training.pipeline.spool import Spool

if TYPE_CHECKING:
    from turnout.training.judge.labelling import JudgeLabels  # has an extra of its own
    from turnout.training.labels.similarity import SimilarityRule

SCHEMA = pa.schema(
    [
        *((name, pa.int64()) for name in PLACE),
        ("id", pa.string()),
        ("file", pa.string()),
        ("prompt", pa.string()),
        ("strong", pa.string()),
        ("weak", pa.string()),
        ("known", pa.int8()),
        ("similarity", pa.float64()),
        DIGEST,
    ]
)


def is_question(record: Record, made: Decision, *, with_known: bool) -> bool:
    """Whether judges may be asked about a row: nobody decided it, or it may measure them.

    A label by agreement measures nobody: such rows are too easy.
    """
    if isinstance(made, Label) and not (with_known and made.family != agreement.NAME):
        return False
    return can_be_judged(record)


def question_rows(
    places: Sequence[Place],
    records: Sequence[Record],
    decisions: Sequence[Decision],
    similarity: Sequence[float | None],
    asked: Sequence[bool],
    digests: Sequence[bytes | None],
) -> pa.Table:
    """Return a table of `SCHEMA` with the rows that may be asked; all of the same length."""
    made = zip(places, records, decisions, similarity, digests, strict=True)
    return pa.Table.from_pylist([_row(*row) for row in compress(made, asked)], SCHEMA)


def _row(
    place: Place, record: Record, made: Decision, similarity: float | None, digest: bytes | None
) -> dict[str, object]:
    strong, weak = (answer.content if answer else None for answer in (record.strong, record.weak))
    return {
        **dict(zip(PLACE, (place.file, place.line, place.index), strict=True)),
        "id": record.id,
        "file": record.file,
        "prompt": record.prompt.text,
        "strong": strong,
        "weak": weak,
        "known": made.match if isinstance(made, Label) else None,
        "similarity": similarity,
        DIGEST.name: digest,
    }


@dataclass
class Questions:
    """All rows that judges may be asked about, on disk.

    Attributes:
        spool: holds them.
        duplicates: among them, and among rows that nobody is asked about.
    """

    spool: Spool
    duplicates: Duplicates

    def add(self, stream: bytes) -> None:
        """Keep the rows of a piece."""
        self.spool.add_rows(stream)

    def rows(self) -> Iterator[pa.Table]:
        """Yield all rows by place, read from disk."""
        return self.duplicates.left_out(self.spool.sorted_rows())

    def asked(self, n_known: int, seed: int, rule: SimilarityRule | None) -> AskedQuestions:
        """Return those to ask: all that are undecided and not similar enough, and so many of the known ones."""
        n_all = sum(rows.num_rows - rows["known"].null_count for rows in self.rows())
        return AskedQuestions(self, draw_known(n_all, n_known, seed), rule)


@dataclass(frozen=True)
class AskedQuestions:
    """Rows to ask, in the order of the logs; each walk through them reads the disk, and holds some hundreds of rows.

    Attributes:
        questions: hold them and others.
        drawn: numbers of the known ones to ask, among all known ones.
        rule: whose labels leave nothing to ask.
    """

    questions: Questions
    drawn: NDArray[np.int64]
    rule: SimilarityRule | None

    def __iter__(self) -> Iterator[Question]:
        n_known = 0
        for table in self.questions.rows():
            is_known = table["known"].is_valid().to_numpy()
            numbers = n_known + np.cumsum(is_known) - 1
            n_known += int(is_known.sum())
            is_open = ~is_known & ~self._similar(table)
            for row in table.filter(is_open | (is_known & np.isin(numbers, self.drawn))).to_pylist():
                texts = (row["prompt"], row["strong"], row["weak"])
                yield Question(row["id"], row["file"], row["line"], row["index"], *texts, row["known"])

    def _similar(self, table: pa.Table) -> NDArray[np.bool_]:
        if self.rule is None:
            return np.zeros(table.num_rows, dtype=np.bool_)
        return np.asarray(pc.fill_null(pc.greater_equal(table["similarity"], self.rule.threshold), False))  # noqa: FBT003


def with_judged(tables: Iterable[pa.Table], labels: JudgeLabels) -> Iterator[pa.Table]:
    """Yield rows, all by place, with the judges' labels for those that are undecided still."""
    from turnout.training.judge.labelling import NAME  # noqa: PLC0415  # the same

    n_before = 0
    for table in tables:
        is_open = pc.and_(table["is_question"], pc.equal(table["abstained"], str(Unlabelled.UNDECIDED)))
        rows = np.flatnonzero(pc.fill_null(is_open, False))  # noqa: FBT003
        taken = slice(n_before, n_before + len(rows))
        n_before += len(rows)
        yield _labelled(table, rows, labels.match[taken], labels.confidence[taken], NAME)


def _labelled(
    table: pa.Table, rows: NDArray[np.int64], match: NDArray[np.int8], confidence: NDArray[np.float64], name: str
) -> pa.Table:
    given = match >= 0
    rows, n = rows[given], table.num_rows
    is_judged = np.zeros(n, dtype=np.bool_)
    is_judged[rows] = True
    matches, worth = np.zeros(n, dtype=np.int8), np.zeros(n)
    matches[rows], worth[rows] = match[given], confidence[given]
    columns = {"match": matches, "labeller": name, "label_confidence": worth, "abstained": None}
    for column, value in columns.items():
        field = table.schema.field(column)
        new = pa.array(value, field.type) if isinstance(value, np.ndarray) else pa.scalar(value, field.type)
        replaced = pc.if_else(pa.array(is_judged), new, table[column])
        table = table.set_column(table.schema.get_field_index(column), field, replaced)
    return table
