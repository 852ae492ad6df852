"""What a check found."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How bad it is: `fail` keeps the server from working, `warn` makes it slower or blind."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True):
    """One line of the check-up.

    Attributes:
        check: what was looked at.
        level: how bad it is.
        found: what is so, with figures.
        advice: what to do; empty when all is well.
    """

    check: str
    level: Level
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    """Return that all is well."""
    return Finding(check, Level.OK, found)


def warn(check: str, found: str, advice: str) -> Finding:
    """Return what makes the server slower or blind."""
    return Finding(check, Level.WARN, found, advice)


def fail(check: str, found: str, advice: str) -> Finding:
    """Return what keeps the server from working."""
    return Finding(check, Level.FAIL, found, advice)
