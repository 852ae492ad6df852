"""Entries: one file's rows as requests in our fields, once it is known which gateway wrote it.

Comes in: a path and how it is to be read. Goes out: `Entry`s with their line and their number on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from serving.bundle import Pair
from training.errors import DataRefused
from training.quarantine import ROW_ERRORS, Reason, reason_of
from training.readers import TURNOUT, Entry, Form, form_named, recognise
from training.readers.conversation import CONVERSATION
from training.reading import AUTO, Reading
from training.rows import PROMPT_FIELDS
from training.tables import RawRow, read_rows

RECOGNISED_BY_ROWS = 100
"""How many rows of a file decide on its format."""


def read_entries(path: Path, pair: Pair, reading: Reading) -> Iterator[tuple[int, int, Entry]]:
    """Yield line, number on the line (from 0) and entry of every request or part of one, in the file's order.

    Raises:
        DataRefused: the file is absent or unreadable, holds no column that a prompt could come from, lacks a
            column that the map names, or compares other models only.
    """
    rows = read_rows(path)
    first = list(islice(rows, RECOGNISED_BY_ROWS))
    form = _form(first, reading)
    seen, other_pairs, n_others = dict[str, None](), Counter[str](), 0
    for raw in chain(first, rows):
        if not raw.fields.keys() <= seen.keys():
            seen.update(dict.fromkeys(raw.fields))
        for index, entry in enumerate(_entries(raw, form, pair, reading.columns)):
            if entry.reason is Reason.OTHER_PAIR:
                other_pairs[entry.key] += 1
            else:
                n_others += 1
            yield raw.line, index, entry
    _check_columns(path, seen, reading.columns, form)
    if other_pairs and not n_others:
        _refuse_other_pairs(path, pair, other_pairs)


def _form(first: Sequence[RawRow], reading: Reading) -> Form:
    if reading.log_format != AUTO:
        return form_named(reading.log_format)
    return TURNOUT if PROMPT_FIELDS & reading.columns.keys() else recognise(first)


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


def _refuse_other_pairs(path: Path, pair: Pair, found: Counter[str]) -> None:
    names = "; ".join(f"{name} ({count} rows)" for name, count in found.most_common(10))
    raise DataRefused(
        f"{path}: no row compares {pair.strong} and {pair.weak}; found: {names}; "
        "name the models with --strong and --weak"
    )


def _check_columns(path: Path, seen: Mapping[str, None], columns: Mapping[str, str], form: Form) -> None:
    """Refuse a file without the columns it needs; one without any readable row passes."""
    if not seen:
        return
    found = ", ".join(list(seen)[:40])
    if missing := [theirs for theirs in columns.values() if theirs not in seen]:
        raise DataRefused(f"{path}: no column {', '.join(missing)} as the column map says; found: {found}")
    if form is TURNOUT and not (PROMPT_FIELDS | {CONVERSATION}) & (seen.keys() | columns.keys()):
        raise DataRefused(
            f"{path}: nothing to read a prompt from; expected one of the columns {', '.join(sorted(PROMPT_FIELDS))}, "
            f"found: {found}; name the right one with a column map, such as prompt={next(iter(seen))}"
        )
