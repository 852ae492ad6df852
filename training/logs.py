"""Logs: the first step of training, from files to records in the order of their rows.

Comes in: gateway logs and tables (JSONL, CSV, each plain, .gz or .zst; Parquet). Goes out:
`ReadResult`, every row either a `Record` or `Rejected`, nothing dropped but blank lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from serving.bundle import Pair
from training.errors import DataRefused
from training.quarantine import Reason, Rejected
from training.records import Record
from training.rows import KNOWN_FIELDS, PROMPT_FIELDS, decode_row
from training.tables import read_rows

PROGRESS_ROWS = 1000


@dataclass(frozen=True)
class ReadResult:
    """The rows of all files, in the order of the files and of their lines."""

    rows: list[Record | Rejected]

    @property
    def n_rows(self) -> int:
        """Rows read, those in quarantine included."""
        return len(self.rows)

    @cached_property
    def records(self) -> list[Record]:
        """The rows that could be read."""
        return [row for row in self.rows if isinstance(row, Record)]

    @cached_property
    def quarantine(self) -> list[Rejected]:
        """The rows that could not."""
        return [row for row in self.rows if isinstance(row, Rejected)]

    @cached_property
    def rejected_by_reason(self) -> dict[Reason, int]:
        """Rows in quarantine by reason, the most frequent first."""
        return dict(Counter(row.reason for row in self.quarantine).most_common())

    def refuse_if_mostly_bad(self, max_share: float = 0.5) -> None:
        """Refuse a log that was not understood.

        Raises:
            DataRefused: more than `max_share` of the rows are in quarantine; the message counts them by reason.
        """
        if len(self.quarantine) <= max_share * self.n_rows:
            return
        first = self.quarantine[0]
        counts = ", ".join(f"{reason} {count}" for reason, count in self.rejected_by_reason.items())
        raise DataRefused(
            f"{len(self.quarantine)} of {self.n_rows} rows can't be read ({counts}), at most {max_share:.0%} may; "
            f"the first is {first.file}, line {first.line}; check the format and the column map"
        )


def read_records(
    paths: Sequence[Path],
    pair: Pair,
    columns: Mapping[str, str] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ReadResult:
    """Read files of any known format; what can't be read goes to quarantine, row by row.

    Args:
        paths: read in the order given.
        pair: names the models whose answers count; dated snapshots answer for their model.
        columns: our field name to the name in the files, where they differ: `{"prompt": "question"}`.
        on_progress: called with the number of rows read so far, every 1,000 rows and at the end.

    Raises:
        DataRefused: a file is absent or unreadable, holds no column that a prompt could come from, or lacks
            a column that the map names.
    """
    columns = columns or {}
    if unknown := sorted(columns.keys() - KNOWN_FIELDS):
        raise DataRefused(
            f"column map: unknown field {', '.join(unknown)}; known are: {', '.join(sorted(KNOWN_FIELDS))}"
        )
    rows: list[Record | Rejected] = []
    for path in paths:
        seen: dict[str, None] = {}
        for raw in read_rows(path):
            seen.update(dict.fromkeys(raw.fields))
            rows.append(decode_row(raw, str(path), pair, columns))
            if on_progress and len(rows) % PROGRESS_ROWS == 0:
                on_progress(len(rows))
        _check_columns(path, seen, columns)
    if on_progress:
        on_progress(len(rows))
    return ReadResult(rows)


def _check_columns(path: Path, seen: Mapping[str, None], columns: Mapping[str, str]) -> None:
    """Refuse a file that was read but not meant for us; one without any readable row passes."""
    if not seen:
        return
    found = ", ".join(list(seen)[:40])
    if missing := [theirs for theirs in columns.values() if theirs not in seen]:
        raise DataRefused(f"{path}: no column {', '.join(missing)} as the column map says; found: {found}")
    if not PROMPT_FIELDS & (seen.keys() | columns.keys()):
        raise DataRefused(
            f"{path}: nothing to read a prompt from; expected one of the columns {', '.join(sorted(PROMPT_FIELDS))}, "
            f"found: {found}; name the right one with a column map, such as prompt={next(iter(seen))}"
        )
