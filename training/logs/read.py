"""Logs: the first step of training, from files to records in the order of their rows.

Comes in: gateway logs and tables (JSONL, CSV, each plain or compressed; Parquet; JSON). Goes out: `ReadResult`,
every row either a `Record`, `Rejected`, or merged into the record whose other part it holds; nothing is dropped
but blank lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from turnout.serving.bundles.manifest import Pair
from turnout.training.logs.collecting import without_cycle_collection
from turnout.training.logs.entries import read_entries
from turnout.training.logs.join import join_answers
from turnout.training.logs.parts import FileParts, Held, Place, match_scores
from turnout.training.logs.quarantine import Reason, Rejected, notices_of, refuse_if_mostly_bad
from turnout.training.logs.readers import Entry, EntryPart
from turnout.training.logs.reading import JoinBy, Reading
from turnout.training.logs.records import Record
from turnout.training.logs.rows import check_fields, decode_row
from turnout.training.logs.stored_files import LogFile
from turnout.training.logs.tables import RawRow

PROGRESS_ROWS = 1000


@dataclass(frozen=True)
class ReadResult:
    """The rows of all files, in the order of the files and of their lines.

    Attributes:
        rows: records, and rows in quarantine.
        n_merged: rows that are part of another row's record: the other model's answer, a batch's output, a score.
        other_pairs: rows read for their prompts alone although they name other models, by these names.
    """

    rows: list[Record | Rejected]
    n_merged: int = 0
    other_pairs: Counter[str] = field(default_factory=Counter)

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
        left: list[Record | Rejected] = [*records, *self.quarantine]
        rows = sorted(left, key=lambda row: order[row.file, row.line, row.index])
        return ReadResult(rows, self.n_merged + n_merged, self.other_pairs)

    def refuse_if_mostly_bad(self, max_share: float = 0.5) -> None:
        """Refuse a log that was not understood, as `turnout.training.logs.quarantine.refuse_mostly_bad` does."""
        refuse_if_mostly_bad(self.quarantine, self.n_rows, len(self.records), max_share)

    @property
    def notices(self) -> list[str]:
        """What a person has to know of rows that were read: fields they lost, and files that end too early."""
        return notices_of((name for record in self.records for name in record.odd_fields), self.quarantine)


def read_records(
    paths: Sequence[LogFile],
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
    check_fields(reading.columns)
    logs = _Logs(paths, pair, reading)
    with without_cycle_collection():
        for number, path in enumerate(paths):
            for line, index, entry in read_entries(path, pair, reading):
                logs.add(Place(number, line, index), entry)
                if on_progress and logs.n_entries % PROGRESS_ROWS == 0:
                    on_progress(logs.n_entries)
        if on_progress:
            on_progress(logs.n_entries)
        return logs.result()


@dataclass
class _Logs:
    """The rows of all files as they come in."""

    paths: Sequence[LogFile]
    pair: Pair
    reading: Reading
    rows: list[Record | Rejected] = field(default_factory=list)
    parts: FileParts = field(default_factory=FileParts)
    other_pairs: Counter[str] = field(default_factory=Counter)
    n_entries: int = 0

    def add(self, place: Place, entry: Entry) -> None:
        self.n_entries += 1
        if self.reading.prompts_only and entry.reason is Reason.OTHER_PAIR:
            self.other_pairs[entry.key] += 1
            entry = replace(entry, reason=None)
        if entry.part is EntryPart.WHOLE or entry.reason:
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
            return ReadResult(self.rows, other_pairs=self.other_pairs)
        rows = [*self.rows, *map(self._decoded, self.parts.joined())]
        if self.parts.scores:
            rows = self._scored(rows)
        number = {str(path): number for number, path in enumerate(self.paths)}
        rows.sort(key=lambda row: (number[row.file], row.line, row.index))
        return ReadResult(rows, self.n_entries - len(rows), self.other_pairs)

    def _scored(self, rows: list[Record | Rejected]) -> list[Record | Rejected]:
        ids = {row.id for row in rows if isinstance(row, Record)}
        scores, unused = match_scores(self.parts.scores, ids, self.reading.score)
        scored = [
            row.with_score(scores[row.id]) if isinstance(row, Record) and row.id in scores else row for row in rows
        ]
        return [*scored, *map(self._decoded, unused)]
