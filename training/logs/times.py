"""Times: when a row says that it was written, in whatever form, as seconds since the epoch.

Comes in: a number in any unit of the epoch, a text, a moment, or the object that a database wraps one in. Goes out:
seconds; a time without a zone is UTC. What can't be told for sure, such as 01/11/2026, is refused.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from dateutil import parser as dateutil_parser
from dateutil import tz

UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (1e20, 1e9))
"""Below the first, a number counts in the second's share of a second: 1e11 s is the year 5138, 1e11 ms is 1973."""

LATEST = 32_503_680_000.0
"""The year 3000: what lies behind it is no time of a log."""

MAX_CHARS = 200
"""Of a time in words, spaces and all."""
_NUMBER = re.compile(r"\s*-?\d+(\.\d*)?([eE]\+?\d+)?\s*")
_UTC = re.compile(r"\s*(UTC|GMT|Z|Etc/UTC)$", re.IGNORECASE)
_APACHE = "%d/%b/%Y:%H:%M:%S %z"
_DAY_OR_MONTH_FIRST = re.compile(r"\s*(\d{1,2})[/.-](\d{1,2})[/.-]\d{2,4}\b")
_ZONES = {
    name: tz.tzoffset(name, hours * 3600)
    for name, hours in {"EST": -5, "EDT": -4, "CET": 1, "CEST": 2, "MST": -7, "MDT": -6, "PDT": -7, "PST": -8}.items()
}
"""Abbreviations that mean one offset wherever they are written; others (IST, CST) mean several: refused."""

_LETTERS_OF_A_ZONE = re.compile(r"\b(?!AM\b|PM\b|UTC\b|GMT\b)[A-Z]{2,5}$")


def epoch_s(value: Any) -> float | None:
    """Return a time as seconds since the epoch; None of nothing.

    Raises:
        ValueError: it is no time, or it may mean several.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, dict):
        return epoch_s(_unwrapped(value))
    seconds = _of_number(float(value)) if type(value) in (int, float) else _of_text(value)
    if not seconds < LATEST:
        raise ValueError("no time")
    return seconds


def _of_number(value: float) -> float:
    for below, per_second in UNITS:
        if abs(value) < below:
            return value / per_second
    raise ValueError("no time")


def _unwrapped(value: dict[str, Any]) -> Any:
    """Return what MongoDB's `$date`, `$numberLong` and protobuf's seconds and nanos wrap."""
    for name in ("$date", "$numberLong", "$numberDouble", "value"):
        if name in value:
            return value[name]
    if "seconds" in value:
        return float(value["seconds"]) + float(value.get("nanos") or value.get("nanoseconds") or 0) / 1e9
    raise ValueError("no time")


def _of_text(value: Any) -> float:
    if isinstance(value, datetime):
        return _seconds(value)
    if not isinstance(value, str) or len(value) > MAX_CHARS:
        raise ValueError("no time")  # callers count what is no time, whatever its type
    if _NUMBER.fullmatch(value):
        return _of_number(float(value))
    return _seconds(_moment(value.strip()))


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _moment(text: str) -> datetime:
    plain = _UTC.sub("", text) if _UTC.search(text) else text
    for read in (datetime.fromisoformat, parsedate_to_datetime, _of_apache):
        try:
            return read(plain)
        except (ValueError, TypeError, IndexError):
            continue
    return _of_words(plain)


def _of_apache(text: str) -> datetime:
    return datetime.strptime(text.strip("[]"), _APACHE)  # noqa: DTZ007  # it has %z


def _of_words(text: str) -> datetime:
    """Return a moment in words or with the day or the month first, where only one of these is possible."""
    found = _DAY_OR_MONTH_FIRST.match(text)
    day_first = bool(found and int(found[1]) > 12)
    if found and int(found[1]) <= 12 and int(found[2]) <= 12 and found[1].lstrip("0") != found[2].lstrip("0"):
        raise ValueError("day or month first?")
    if (zone := _LETTERS_OF_A_ZONE.search(text)) and zone[0] not in _ZONES:
        raise ValueError("a zone of several meanings")
    day = datetime(1, 1, 1)  # noqa: DTZ001  # only shows whether the text has a date of its own
    moment: datetime = dateutil_parser.parse(text, dayfirst=day_first, tzinfos=_ZONES, default=day)
    if moment.year == 1:
        raise ValueError("no date")
    return moment
