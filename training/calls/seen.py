"""Seen: which keys came before, however many there are: they lie in a temporary file, and no call is counted twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing

SCHEMA = "create table keys (key text primary key) without rowid"


class SeenKeys:
    """Keys that came before; memory holds SQLite's pages of them, some 2 MB."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # no name: SQLite keeps it to itself and removes it
        self._db.execute("pragma journal_mode=off")
        self._db.execute(SCHEMA)
        self._db.execute("begin")

    def is_new(self, key: str) -> bool:
        """Return whether the key comes for the first time, and remember it."""
        return self._db.execute("insert or ignore into keys values (?)", (key,)).rowcount == 1

    def close(self) -> None:
        """Forget all keys."""
        self._db.close()


def distinct(keys: Iterable[str]) -> Iterator[str]:
    """Yield each key once, when it first comes."""
    with closing(SeenKeys()) as seen:
        yield from filter(seen.is_new, keys)
