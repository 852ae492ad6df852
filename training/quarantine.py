"""Quarantine: the rows that could not be read, each with where it stands and why.

Comes in: rows refused by `training.lines`, `training.tables` or `training.rows`. Goes out: a JSONL
file of file, line and reason, never of the row's text: a log's damaged row is still a customer's row.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec


class Reason(StrEnum):
    """Why a row was not read."""

    INVALID_UTF8 = "invalid_utf8"
    INVALID_JSON = "invalid_json"
    INVALID_CSV = "invalid_csv"
    WRONG_TYPE = "wrong_type"
    """A field of the wrong type, a row that is no object, or one with too many or too few columns."""
    NO_PROMPT = "no_prompt"
    OUT_OF_RANGE = "out_of_range"
    """A score outside 0 to 1 or NaN, or a propensity outside (0, 1]."""
    TOO_LONG = "too_long"
    TRUNCATED = "truncated"
    """A compressed or columnar file is damaged from here on, and the rows lost are not counted.

    gzip notices late: where bytes were overwritten rather than cut off, some rows just before may be garbled too."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row in quarantine.

    Attributes:
        file, line: where the row stands (line counts from 1).
        reason: why it was not read.
        id: the row's own id, where at least that could be read.
    """

    file: str
    line: int
    reason: Reason
    id: str | None = None


def write_quarantine(path: Path, rejected: Iterable[Rejected]) -> None:
    """Write file, line and reason of each rejected row as JSONL; replaces `path` in one step."""
    temporary = path.with_name(f"{path.name}.tmp{os.getpid()}")
    with temporary.open("wb") as file:
        for row in rejected:
            file.write(msgspec.json.encode({"file": row.file, "line": row.line, "reason": row.reason}) + b"\n")
    temporary.replace(path)
