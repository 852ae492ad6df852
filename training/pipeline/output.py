"""Output: the finished rows as the file of labels, the quarantine and the counts of the ledger.

Comes in: rows by place, from the spool. Goes out: both files, each under its final name only when complete. The same
rows give the same bytes, however they were cut into tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from turnout.serving.files import replacing
from turnout.training.errors import DataRefused
from turnout.training.labels.ledger import LABEL_SCHEMA, RowTally
from turnout.training.logs.quarantine import LEFT_OUT, Reason, Rejected, quarantine_line, refuse_mostly_bad

ROW_GROUP_ROWS, VECTOR_ROW_GROUP_ROWS = 50_000, 5_000
"""Rows of a row group, which is held whole: some 5 MB without vectors and 10 MB with them."""


@dataclass
class Output:
    """Where finished rows go, and what was counted on the way.

    Attributes:
        out: file of labels; the quarantine lies beside it where any row is in it.
        folder: where both lie until they are complete; it goes with the next run when this one is killed.
        metadata: of the Parquet file.
        beside: columns that the rows have beside their labels: vectors, or features.
        tally: of the rows written.
        cut: files that are cut off, and their last line.
    """

    out: Path
    folder: Path
    metadata: dict[bytes, bytes]
    beside: Sequence[pa.Field] = ()
    tally: RowTally = field(default_factory=RowTally)
    cut: list[tuple[str, int]] = field(default_factory=list)

    def write(self, tables: Iterable[pa.Table], n_rows: int) -> None:
        """Write all rows, which come by place; `n_rows` were read.

        Raises:
            DataRefused: most of them are in quarantine, or none has a label where a file stands already; nothing is
                written then.
        """
        schema = pa.schema([*LABEL_SCHEMA, *self.beside], metadata=self.metadata)
        size = VECTOR_ROW_GROUP_ROWS if self.beside else ROW_GROUP_ROWS
        with replacing(self.out, self.folder) as labels, ExitStack() as opened:
            quarantine = _Quarantine(self.out.with_name(f"{self.out.name}.quarantine.jsonl"), self.folder, opened)
            with pq.ParquetWriter(labels, schema, compression="zstd") as writer:
                for group in _row_groups(self._records(tables, quarantine), size):
                    writer.write_table(group.select(schema.names), row_group_size=size)
            counts = {Reason(why): count for why, count in self.tally.quarantined.most_common()}
            n_records = sum(self.tally.labels.values()) + sum(self.tally.abstained.values())
            refuse_mostly_bad(counts, quarantine.first, n_rows, n_records=n_records)
            if not self.tally.labels and self.out.exists():
                why = ", ".join(f"{reason} {count}" for reason, count in self.tally.abstained.most_common())
                raise DataRefused(f"none of {n_rows} rows has a label ({why}); {self.out} stays as it was")
            self.cut = quarantine.cut
            quarantine.end()

    def _records(self, tables: Iterable[pa.Table], quarantine: _Quarantine) -> Iterator[pa.Table]:
        """Yield the rows that are not in quarantine, and count all."""
        for table in tables:
            is_bad = pc.is_valid(table["quarantined"])
            if pc.any(is_bad).as_py():
                quarantine.add(table.filter(is_bad), self.tally)
                table = table.filter(pc.invert(is_bad))  # noqa: PLW2901
            for row in _counts(table, ["task", "labeller", "match", "label_confidence", "abstained"]):
                if row["match"] is None:
                    self.tally.abstained[row["abstained"]] += row["count"]
                else:
                    key = (row["task"] or "", row["labeller"], row["match"], row["label_confidence"])
                    self.tally.labels[key] += row["count"]
            yield table


def refuse_before_paying(tables: Iterable[pa.Table], n_rows: int) -> None:
    """Look at the quarantine among all rows, which come by place; `n_rows` were read.

    Raises:
        DataRefused: most of them are in it.
    """
    counts, first = Counter[Reason](), None
    for table in tables:
        for rejected in _rejected(table.filter(pc.is_valid(table["quarantined"]))):
            counts[rejected.reason] += 1
            if first is None and rejected.reason not in LEFT_OUT:
                first = rejected
    refuse_mostly_bad(dict(counts.most_common()), first, n_rows)


def _rejected(rows: pa.Table) -> Iterator[Rejected]:
    for row in rows.select(["file", "line", "index", "quarantined"]).to_pylist():
        yield Rejected(row["file"], row["line"], Reason(row["quarantined"]), index=row["index"])


class _Quarantine:
    """The file of the rows in quarantine, which is there only where there are any."""

    def __init__(self, path: Path, folder: Path, opened: ExitStack) -> None:
        self._path, self._folder, self._opened = path, folder, opened
        self._file: IO[bytes] | None = None
        self.first: Rejected | None = None
        self.cut: list[tuple[str, int]] = []

    def add(self, rows: pa.Table, tally: RowTally) -> None:
        if self._file is None:
            temporary = self._opened.enter_context(replacing(self._path, self._folder))
            self._file = self._opened.enter_context(temporary.open("wb"))
        for rejected in _rejected(rows):
            self._file.write(quarantine_line(rejected))
            tally.quarantined[str(rejected.reason)] += 1
            if rejected.reason is Reason.TRUNCATED:
                self.cut.append((rejected.file, rejected.line))
            if self.first is None and rejected.reason not in LEFT_OUT:
                self.first = rejected

    def end(self) -> None:
        """Remove what an earlier run under this name left, where no row is in quarantine now."""
        if self._file is None:
            self._path.unlink(missing_ok=True)


def _counts(table: pa.Table, names: list[str]) -> list[dict[str, Any]]:
    counted = table.group_by(names).aggregate([([], "count_all")])
    return list(counted.rename_columns([*counted.column_names[:-1], "count"]).to_pylist())


def _row_groups(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """Yield the rows in tables of exactly `size`, but for the last; contiguous, so that pages are cut alike."""
    waiting: list[pa.Table] = []
    n_waiting = 0
    for table in tables:
        waiting.append(table)
        n_waiting += table.num_rows
        while n_waiting >= size:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, size).combine_chunks()
            waiting, n_waiting = [whole.slice(size)], n_waiting - size
    if n_waiting:
        yield pa.concat_tables(waiting).combine_chunks()
