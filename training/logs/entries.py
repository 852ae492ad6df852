"""Entries: one file's rows as requests in our fields, once it is known which gateway wrote it.

Comes in: a path and how it is to be read. Goes out: `Entry`s with their line and their number on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any

from turnout.serving.bundles.manifest import Pair
from turnout.training.errors import DataRefused
from turnout.training.logs.columns import kind_of_cell, listed, proposal
from turnout.training.logs.quarantine import ROW_ERRORS, Reason, reason_of
from turnout.training.logs.readers import FILE, TURNOUT, Entry, Form, form_named, recognise
from turnout.training.logs.readers.conversation import CONVERSATION
from turnout.training.logs.reading import AUTO, Reading
from turnout.training.logs.rows import PROMPT_FIELDS
from turnout.training.logs.stored_files import LogFile
from turnout.training.logs.tables import RawRow, read_rows

RECOGNISED_BY_ROWS = 100
"""How many rows of a file decide on its format."""


@dataclass
class Seen:
    """What the rows of a file, or of a part of it, show of the file.

    Attributes:
        columns: names of the fields, in the order in which they came.
        other_pairs: rows about other pairs of models, by the names of these.
        n_others: all other rows.
        kinds: how often the first rows hold a cell of a kind, by kind and column.
        n_sampled: these rows.
    """

    columns: dict[str, None] = field(default_factory=dict)
    other_pairs: Counter[str] = field(default_factory=Counter)
    n_others: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    n_sampled: int = 0

    def look(self, fields: Mapping[str, Any]) -> None:
        """Note what the columns of a row hold; the first rows of a part are enough."""
        if self.n_sampled < RECOGNISED_BY_ROWS:
            self.n_sampled += 1
            self.kinds.update(f"{kind_of_cell(value)}\0{name}" for name, value in fields.items())

    def add(self, other: Seen) -> None:
        """Add what a later part of the same file showed."""
        self.columns |= other.columns
        self.other_pairs += other.other_pairs
        self.n_others += other.n_others
        self.kinds += other.kinds
        self.n_sampled += other.n_sampled

    def refuse_wrong_file(self, path: LogFile, pair: Pair, columns: Mapping[str, str], form: Form) -> None:
        """Refuse a file without the columns it needs, or about other models; one without any readable row passes.

        Raises:
            DataRefused: it holds no column that a prompt could come from, lacks a column that the map names, or
                compares other models only.
        """
        _check_columns(path, self, columns, form)
        if self.other_pairs and not self.n_others:
            _refuse_other_pairs(path, pair, self.other_pairs)


def read_entries(path: LogFile, pair: Pair, reading: Reading) -> Iterator[tuple[int, int, Entry]]:
    """Yield line, number on the line (from 0) and entry of every request or part of one, in the file's order.

    Raises:
        DataRefused: the file is absent or unreadable, holds no column that a prompt could come from, lacks a
            column that the map names, or compares other models only.
    """
    rows = read_rows(path)
    first = list(islice(rows, RECOGNISED_BY_ROWS))
    form, seen = form_of(first, reading), Seen()
    yield from entries_of(chain(first, rows), form, pair, reading.columns, seen, str(path))
    if reading.prompts_only or reading.any_pair:
        seen.other_pairs.clear()
    seen.refuse_wrong_file(path, pair, reading.columns, form)


def form_of(first: Sequence[RawRow], reading: Reading) -> Form:
    """Return the form of a file: the one that the operator names, else what its first rows look like."""
    if reading.log_format != AUTO:
        return form_named(reading.log_format)
    return TURNOUT if PROMPT_FIELDS & reading.columns.keys() else recognise(first)


def entries_of(
    rows: Iterable[RawRow], form: Form, pair: Pair, columns: Mapping[str, str], seen: Seen, file: str = ""
) -> Iterator[tuple[int, int, Entry]]:
    """Yield line, number on the line and entry of the requests of some rows; what they show goes into `seen`."""
    for raw in rows:
        seen.look(raw.fields)
        if not raw.fields.keys() <= seen.columns.keys():
            seen.columns.update(dict.fromkeys(raw.fields))
        if form.needs_file and not raw.reason:
            raw = replace(raw, fields=raw.fields | {FILE: file})  # noqa: PLW2901
        for index, entry in enumerate(_entries(raw, form, pair, columns)):
            if entry.reason is Reason.OTHER_PAIR:
                seen.other_pairs[entry.key] += 1
            else:
                seen.n_others += 1
            yield raw.line, index, entry


def _entries(raw: RawRow, form: Form, pair: Pair, columns: Mapping[str, str]) -> list[Entry]:
    if raw.reason:
        return [Entry(reason=raw.reason)]
    try:
        entries = form.entries(raw.fields, pair)
    except ROW_ERRORS as error:
        return [Entry(raw.fields, reason=reason_of(error))]
    named = {ours: raw.fields[theirs] for ours, theirs in columns.items() if theirs in raw.fields}
    if named:
        entries = [replace(entry, fields=entry.fields | named) for entry in entries]
    return entries or [Entry(reason=Reason.NOT_CHAT)]


def _refuse_other_pairs(path: LogFile, pair: Pair, found: Counter[str]) -> None:
    names = "; ".join(f"{name} ({count} rows)" for name, count in found.most_common(10))
    raise DataRefused(
        f"{path}: no row compares {pair.strong} and {pair.weak}; found: {names}; "
        "name the models with --strong and --weak"
    )


def _check_columns(path: LogFile, shown: Seen, columns: Mapping[str, str], form: Form) -> None:
    """Refuse a file without the columns it needs; one without any readable row passes."""
    seen = shown.columns
    if not seen:
        return
    if (mapped := columns.get("prompt")) and shown.n_sampled and shown.kinds[f"id\0{mapped}"] == shown.n_sampled > 1:
        raise DataRefused(f"{path}: the column {mapped} holds ids, not prompts{proposal(shown.kinds, mapped)}")
    found = listed(seen)
    if missing := [theirs for theirs in columns.values() if theirs not in seen]:
        raise DataRefused(f"{path}: no column {', '.join(missing)} as the column map says; found: {found}")
    if form is TURNOUT and not (PROMPT_FIELDS | {CONVERSATION}) & (seen.keys() | columns.keys()):
        raise DataRefused(
            f"{path}: nothing to read a prompt from; expected one of the columns {', '.join(sorted(PROMPT_FIELDS))}, "
            f"found: {found}{proposal(shown.kinds)}"
        )
