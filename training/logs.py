"""Logs: the first step of training, from files to records in the order of their rows.

Comes in: gateway logs and tables (JSONL, CSV, each plain or compressed; Parquet; JSON). Goes out: `ReadResult`,
every row either a `Record`, `Rejected`, or merged into the record whose other part it holds; nothing is dropped
but blank lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path

from serving.bundle import Pair
from training.errors import DataRefused
from training.join import JoinBy, join_answers
from training.parts import Held, Parts, Place, add_scores
from training.quarantine import LEFT_OUT, ROW_ERRORS, Reason, Rejected, reason_of
from training.readers import AUTO, TURNOUT, Entry, Form, Part, form_named, recognise
from training.reading import Reading
from training.records import Record
from training.rows import KNOWN_FIELDS, PROMPT_FIELDS, decode_row
from training.tables import RawRow, read_rows

PROGRESS_ROWS = 1000
RECOGNISED_BY_ROWS = 100
"""How many rows of a file decide on its format."""


@dataclass(frozen=True)
class ReadResult:
    """The rows of all files, in the order of the files and of their lines.

    Attributes:
        rows: records, and rows in quarantine.
        n_merged: rows that are part of another row's record: the other model's answer, a batch's output, a score.
    """

    rows: list[Record | Rejected]
    n_merged: int = 0

    @property
    def n_rows(self) -> int:
        """Rows read: records, those in quarantine, and those merged into records."""
        return len(self.rows) + self.n_merged

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

    def joined(self, by: JoinBy) -> ReadResult:
        """Return the same with the two models' answers to one request in one record."""
        records, n_merged = join_answers(self.records, by)
        if not n_merged:
            return self
        order = {(row.file, row.line, row.index): number for number, row in enumerate(self.rows)}
        rows = sorted((*records, *self.quarantine), key=lambda row: order[row.file, row.line, row.index])
        return ReadResult(rows, self.n_merged + n_merged)

    def refuse_if_mostly_bad(self, max_share: float = 0.5) -> None:
        """Refuse a log that was not understood; rows understood and left out don't count against it.

        Raises:
            DataRefused: more than `max_share` of the rows are in quarantine; the message counts them by reason.
        """
        bad = [row for row in self.quarantine if row.reason not in LEFT_OUT]
        n_left_out = len(self.quarantine) - len(bad)
        if len(bad) <= max_share * (self.n_rows - n_left_out):
            return
        first = bad[0]
        counts = ", ".join(f"{reason} {count}" for reason, count in self.rejected_by_reason.items())
        raise DataRefused(
            f"{len(bad)} of {self.n_rows} rows can't be read ({counts}), at most {max_share:.0%} may; "
            f"the first is {first.file}, line {first.line}; check the format and the column map"
        )


def read_records(
    paths: Sequence[Path],
    pair: Pair,
    reading: Reading | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ReadResult:
    """Read files of any known format; what can't be read goes to quarantine, row by row.

    Parts of one request are put together across all files; answers of the two models are not (`joined` does).

    Args:
        paths: in any order, which is that of the rows.
        pair: names the models whose answers count; dated snapshots answer for their model.
        reading: how to read them; by default the format is found from each file's rows.
        on_progress: called with the number of rows read so far, every 1,000 rows and at the end.

    Raises:
        DataRefused: a file is absent or unreadable, holds no column that a prompt could come from, lacks
            a column that the map names, or compares other models only.
    """
    reading = reading or Reading()
    _check_fields(reading.columns)
    logs = _Logs(paths, pair, reading)
    for number, path in enumerate(paths):
        for place, entry in _File(path, pair, reading).entries(number):
            logs.add(place, entry)
            if on_progress and logs.n_entries % PROGRESS_ROWS == 0:
                on_progress(logs.n_entries)
    if on_progress:
        on_progress(logs.n_entries)
    return logs.result()


def _check_fields(columns: Mapping[str, str]) -> None:
    if unknown := sorted(columns.keys() - KNOWN_FIELDS):
        raise DataRefused(
            f"column map: unknown field {', '.join(unknown)}; known are: {', '.join(sorted(KNOWN_FIELDS))}"
        )


@dataclass
class _Logs:
    """The rows of all files as they come in."""

    paths: Sequence[Path]
    pair: Pair
    reading: Reading
    rows: list[Record | Rejected] = field(default_factory=list)
    parts: Parts = field(default_factory=Parts)
    n_entries: int = 0

    def add(self, place: Place, entry: Entry) -> None:
        self.n_entries += 1
        if entry.part is Part.WHOLE or entry.reason:
            self.rows.append(self._decoded(Held(place, entry)))
        else:
            self.parts.add(place, entry)

    def _decoded(self, held: Held) -> Record | Rejected:
        place, entry = held
        return decode_row(
            RawRow(place.line, entry.fields, entry.reason, place.index), str(self.paths[place.file]), self.pair
        )

    def result(self) -> ReadResult:
        """Put the parts to their records; every entry that is neither of these nor in quarantine was merged."""
        if not len(self.parts):
            return ReadResult(self.rows)
        rows = [*self.rows, *map(self._decoded, self.parts.joined())]
        if self.parts.scores:
            rows = self._scored(rows)
        number = {str(path): number for number, path in enumerate(self.paths)}
        rows.sort(key=lambda row: (number[row.file], row.line, row.index))
        return ReadResult(rows, self.n_entries - len(rows))

    def _scored(self, rows: list[Record | Rejected]) -> list[Record | Rejected]:
        records = {row.id: row for row in rows if isinstance(row, Record)}
        unused = add_scores(self.parts.scores, records, self.reading.score)
        scored = [records[row.id] if isinstance(row, Record) else row for row in rows]
        return [*scored, *map(self._decoded, unused)]


@dataclass(frozen=True)
class _File:
    """One file, whose form is found from its first rows."""

    path: Path
    pair: Pair
    reading: Reading

    def entries(self, number: int) -> Iterator[tuple[Place, Entry]]:
        """Yield the file's requests and parts of them; refuse a file that was read but not meant for us."""
        rows = read_rows(self.path)
        first = list(islice(rows, RECOGNISED_BY_ROWS))
        form = self._form(first)
        seen, other_pairs, n_others = dict[str, None](), Counter[str](), 0
        for raw in chain(first, rows):
            seen.update(dict.fromkeys(raw.fields))
            for index, entry in enumerate(self._row_entries(raw, form)):
                if entry.reason is Reason.OTHER_PAIR:
                    other_pairs[entry.key] += 1
                else:
                    n_others += 1
                yield Place(number, raw.line, index), entry
        _check_columns(self.path, seen, self.reading.columns, form)
        if other_pairs and not n_others:
            self._refuse_other_pairs(other_pairs)

    def _form(self, first: Sequence[RawRow]) -> Form:
        if self.reading.log_format != AUTO:
            return form_named(self.reading.log_format)
        return TURNOUT if PROMPT_FIELDS & self.reading.columns.keys() else recognise(first)

    def _row_entries(self, raw: RawRow, form: Form) -> list[Entry]:
        if raw.reason:
            return [Entry(reason=raw.reason)]
        try:
            entries = form.entries(raw.fields, self.pair)
        except ROW_ERRORS as error:
            return [Entry(raw.fields, reason=reason_of(error))]
        named = {ours: raw.fields[theirs] for ours, theirs in self.reading.columns.items() if theirs in raw.fields}
        if named:
            entries = [replace(entry, fields=entry.fields | named) for entry in entries]
        return entries or [Entry(reason=Reason.NOT_CHAT)]

    def _refuse_other_pairs(self, found: Counter[str]) -> None:
        names = "; ".join(f"{name} ({count} rows)" for name, count in found.most_common(10))
        raise DataRefused(
            f"{self.path}: no row compares {self.pair.strong} and {self.pair.weak}; found: {names}; "
            "name the models with --strong and --weak"
        )


def _check_columns(path: Path, seen: Mapping[str, None], columns: Mapping[str, str], form: Form) -> None:
    """Refuse a file without the columns it needs; one without any readable row passes."""
    if not seen:
        return
    found = ", ".join(list(seen)[:40])
    if missing := [theirs for theirs in columns.values() if theirs not in seen]:
        raise DataRefused(f"{path}: no column {', '.join(missing)} as the column map says; found: {found}")
    if form is TURNOUT and not PROMPT_FIELDS & (seen.keys() | columns.keys()):
        raise DataRefused(
            f"{path}: nothing to read a prompt from; expected one of the columns {', '.join(sorted(PROMPT_FIELDS))}, "
            f"found: {found}; name the right one with a column map, such as prompt={next(iter(seen))}"
        )
