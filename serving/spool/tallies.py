"""Tallies: counts that the workers of a server add up, in a folder of the spool, one small file a worker.

Comes in: rows of plain values. Goes out: the rows of all workers. A worker rewrites its own file as a whole and reads
those of the others; a dead worker's file stays, so that its counts do, until it holds nothing that still counts.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

FOLDER = "promises"
MODE, FOLDER_MODE = 0o600, 0o700
_log = logging.getLogger("turnout.spool")


class TallyRow(msgspec.Struct, frozen=True, array_like=True):
    """How often one thing was counted.

    Attributes:
        day: days since 1970 (UTC).
        bundle: `name/version`.
        policy: its name.
        task: as the caller named it, or a word for all others.
        least: smallest probability of being asked for both answers that the rules in force gave.
        place: of its weight.
        depth: steps of the ladder at which the weak model's answer would have been shown and worse; of a ladder of
            models the step in force, whether worse or not.
        worse: 1 where it was shown (or was to be) and worse, else 0.
        n: how often.
    """

    day: int
    bundle: str
    policy: str
    task: str
    least: float
    place: int
    depth: int
    worse: int
    n: int


class Tallies:
    """The files of one spool; for one thread at a time."""

    def __init__(self, spool: Path) -> None:
        """Take the spool's folder; nothing is written yet."""
        self._folder = spool / FOLDER
        self._own = self._folder / f"{int(time.time())}-{os.getpid()}-{secrets.token_hex(4)}.json"

    def read_others(self, counts: Callable[[TallyRow], bool]) -> list[TallyRow]:
        """Return the rows of all other files that still count; files that hold none are removed.

        A damaged file is passed over, and said so.
        """
        found: list[TallyRow] = []
        for path in sorted(self._folder.glob("*.json")):
            if path == self._own:
                continue
            try:
                rows = [row for row in msgspec.json.decode(path.read_bytes(), type=list[TallyRow]) if counts(row)]
            except FileNotFoundError:
                continue  # another worker removed it
            except msgspec.MsgspecError:
                _log.error("promises: %s is damaged and passed over", path.name)
                continue
            if not rows:
                path.unlink(missing_ok=True)
            found.extend(rows)
        return found

    def write(self, rows: Sequence[TallyRow]) -> None:
        """Put these rows in the place of this worker's.

        Raises:
            OSError: the disk does not take them.
        """
        self._folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        draft = self._own.with_suffix(".draft")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(rows))
        draft.replace(self._own)
