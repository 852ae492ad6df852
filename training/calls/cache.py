"""Cache: what was sent and what came back, in SQLite, so that a killed run pays for nothing twice.

A request is a row before it leaves (`in_doubt`), and the row is completed when its answer is there. After a
SIGKILL the rows still in doubt are those that were under way: they may have been billed, they count
against the caps, and they are asked again under the same `Idempotency-Key`.

Holds digests, costs and what the caller keeps of an answer; no prompt.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from turnout.training.errors import CacheInUse, DataRefused

SCHEMA_VERSION = 1
SCHEMA = """
create table sends (
    id integer primary key,
    key text not null,
    state text not null,
    usd real not null,
    prompt_tokens integer,
    completion_tokens integer,
    kept blob,
    batch text
);
create index sends_by_key on sends (key);
create index sends_by_batch on sends (batch) where batch is not null;
create table batches (digest text primary key, id text, input_file text);
"""


class State(StrEnum):
    """How far a request has come."""

    IN_DOUBT = "in_doubt"
    ANSWERED = "answered"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that is, or may be, billed; `kept` only when answered."""

    state: State
    usd: float
    kept: bytes | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request of a batch under way: its number, and the most that it costs."""

    number: int
    bound_usd: float


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch under way; `id` is None when it was about to be created."""

    digest: str
    id: str | None
    input_file: str | None


class CallCache:
    """One SQLite file, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            CacheInUse: another run has it open; two at once would pay for the same calls.
            DataRefused: it is no cache, or one of another version.
        """
        self.path = path
        is_new = not path.exists()
        try:
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=0.5)
            # FULL: an answer that is paid for survives a power cut too; an fsync is nothing beside a call.
            for pragma in ("locking_mode=exclusive", "journal_mode=wal", "synchronous=full"):
                self._db.execute(f"pragma {pragma}")
            self._db.execute("begin exclusive")
            self._create_or_check()
            self._db.execute("commit")
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
                raise CacheInUse(f"{path}: in use by another run; wait for it, or name another cache") from error
            if is_new:
                path.unlink(missing_ok=True)
            raise DataRefused(f"{path}: not a cache of calls: {error}; name another file") from error

    def _create_or_check(self) -> None:
        (version,) = self._db.execute("pragma user_version").fetchone()
        if version == 0 and not self._db.execute("select 1 from sqlite_master").fetchone():
            for statement in SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"pragma user_version={SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            self.close()
            raise DataRefused(
                f"{self.path}: a cache of version {version}, expected {SCHEMA_VERSION}; name another file"
            )

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def sends(self, key: str) -> list[Sent]:
        """Return what is known of a call's requests, in the order they were sent."""
        rows = self._db.execute("select state, usd, kept from sends where key = ? order by id", (key,))
        return [Sent(State(state), usd, kept) for state, usd, kept in rows]

    def send(self, key: str, bound_usd: float) -> int:
        """Write down that a request is about to leave; return its number."""
        cursor = self._db.execute(
            "insert into sends (key, state, usd) values (?, ?, ?)", (key, State.IN_DOUBT, bound_usd)
        )
        return int(cursor.lastrowid or 0)

    def not_billed(self, number: int) -> None:
        """Forget a request that the endpoint refused, or that never reached it."""
        self._db.execute("delete from sends where id = ?", (number,))

    def answered(
        self, number: int, usd: float, prompt_tokens: int | None, completion_tokens: int | None, kept: bytes | None
    ) -> None:
        """Write down the answer of a request; `kept` None says that it could not be read."""
        state = State.MALFORMED if kept is None else State.ANSWERED
        self._db.execute(
            "update sends set state = ?, usd = ?, prompt_tokens = ?, completion_tokens = ?, kept = ? where id = ?",
            (state, usd, prompt_tokens, completion_tokens, kept, number),
        )

    def spent(self, keys: Iterable[str]) -> tuple[float, int]:
        """Return USD and requests that these calls, each named once, have cost so far; in doubt counts its bound."""
        usd, n_calls = 0.0, 0
        for key in keys:
            for sent in self.sends(key):
                usd += sent.usd
                n_calls += 1
        return usd, n_calls

    # Batches: requests that leave together. Their rows are in doubt until the batch is collected.

    def open_batch(self, digest: str, bounds_usd: dict[str, float]) -> None:
        """Write down that a batch of these calls is about to be created."""
        self._db.execute("begin")
        self._db.execute("insert into batches (digest) values (?)", (digest,))
        self._db.executemany(
            "insert into sends (key, state, usd, batch) values (?, ?, ?, ?)",
            [(key, State.IN_DOUBT, usd, digest) for key, usd in bounds_usd.items()],
        )
        self._db.execute("commit")

    def batch_created(self, digest: str, batch_id: str, input_file: str) -> None:
        """Write down the id that the endpoint gave a batch."""
        self._db.execute("update batches set id = ?, input_file = ? where digest = ?", (batch_id, input_file, digest))

    def open_batches(self) -> list[Batch]:
        """Return the batches that were not collected yet."""
        return [Batch(*row) for row in self._db.execute("select digest, id, input_file from batches order by rowid")]

    def batched(self, digest: str) -> dict[str, Waiting]:
        """Return the requests of a batch by their keys."""
        found = self._db.execute("select key, id, usd from sends where batch = ? and state = 'in_doubt'", (digest,))
        return {key: Waiting(number, usd) for key, number, usd in found}

    def is_batched(self, key: str) -> bool:
        """Return whether a batch under way holds the call."""
        found = self._db.execute(
            "select 1 from sends where key = ? and batch is not null and state = 'in_doubt'", (key,)
        )
        return found.fetchone() is not None

    def batch_collected(self, digest: str) -> None:
        """Close a batch; its requests without an answer were not billed."""
        self._db.execute("begin")
        self._db.execute("delete from sends where batch = ? and state = ?", (digest, State.IN_DOUBT))
        self._db.execute("delete from batches where digest = ?", (digest,))
        self._db.execute("commit")
