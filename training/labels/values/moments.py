"""Moments: dates and times of day, in the forms and languages that answers use.

Comes in: the text of a value. Goes out: `Moment`, all that it may mean: `03/04/2024` is a day in March or in April.
The months' names are Babel's, of ten languages (0.1 s, once). dateparser was measured and left out: 17 to 330 ms a text.
"""  # noqa: E501

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import cache, lru_cache

from turnout.training.labels.values.clean import cleaned

LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "sv")
MAX_CHARS = 60

_ISO = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ]+(.+))?")
_BY_SIGN = re.compile(r"(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})\.?")
_EAST = re.compile(r"(?:(\d{4})\s*[年년]\s*)?(\d{1,2})\s*[月월]\s*(?:(\d{1,2})\s*[日號号일])?")
_TIME = re.compile(
    r"(?:at\s+|um\s+|à\s+|a las\s+)?(\d{1,2})(?:(?:[:.h]|\s?Uhr\s?)(\d{2}))?(?::(\d{2})(?:\.(\d{1,6}))?)?\s*(?:Uhr|h|hrs|o'clock)?"  # noqa: E501
    r"\s*([ap])?\.?\s?m?\.?\s*(Z|UTC|GMT|[A-Z]{3,4}|[+-]\d{2}:?\d{2})?",
    re.IGNORECASE,
)
_IS_TIME = re.compile(r"\d\s*(?:[:]\d{2}|[ap]\.?\s?m\.?\b|\s?Uhr|\s?o'clock|h\d{2})", re.IGNORECASE)
_DAY = re.compile(r"(\d{1,2})(?:st|nd|rd|th|er|\.|º|ª)?", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")
_FILLERS = frozenset(
    ["the", "of", "de", "del", "in", "den", "der", "le", "la", "el", "am", "on", "di", "da", "do", "il", "den"]
)
_STOP = "."
_NAMED_TIMES = {"noon": (12, 0, 0), "midday": (12, 0, 0), "midnight": (0, 0, 0)}


@dataclass(frozen=True, slots=True)
class Moment:
    """What a text may mean: each a (year, month, day, second of the day, zone), None for what it does not say."""

    readings: frozenset[tuple[int | None, int | None, int | None, int | None, str | None]]


@lru_cache(maxsize=4096)
def moment(text: str) -> Moment | None:
    """Return the date, the time or both that the whole text is; None when it is none."""
    if len(text) > MAX_CHARS or (not any(map(str.isdecimal, text)) and text.strip(" .").casefold() not in _NAMED_TIMES):
        return None
    plain = cleaned(text)
    if found := _ISO.fullmatch(plain):
        clock = _clock(found[4]) if found[4] else (None, None)
        return _made([(int(found[1]), int(found[2]), int(found[3]))], clock)
    if found := _BY_SIGN.fullmatch(plain):
        return _made(_orders(found[1], found[3], found[4], found[2]), (None, None))
    if (found := _EAST.fullmatch(plain)) and found[3]:
        return _made([(int(found[1]) if found[1] else None, int(found[2]), int(found[3]))], (None, None))
    if (clock := _clock(plain)) is not None and (_IS_TIME.search(plain) or plain.casefold() in _NAMED_TIMES):
        return _made([(None, None, None)], clock)
    return _with_month(plain)


def same_moment(one: Moment, other: Moment) -> bool | None:
    """Whether two say the same; None where one says less than the other, or may mean another day."""
    if one.readings == other.readings and len(one.readings) == 1:
        return True
    agree = [_agree(mine, yours) for mine in one.readings for yours in other.readings]
    return None if any(made is not False for made in agree) else False


def _agree(mine: tuple, yours: tuple) -> bool | None:  # type: ignore[type-arg]
    pairs = list(zip(mine, yours, strict=True))
    if mine[4] != yours[4]:
        return None  # another zone, or one that is not named
    if any(a != b for a, b in pairs if a is not None and b is not None):
        return False
    return None if mine != yours else True


def _made(
    days: list[tuple[int | None, int | None, int | None]], clock: tuple[int | None, str | None] | None
) -> Moment | None:
    if clock is None:
        return None
    kept = frozenset((*day, *clock) for day in days if _is_day(*day))
    return Moment(kept) if kept else None


def _is_day(year: int | None, month: int | None, day: int | None) -> bool:
    if month is None:
        return True
    try:
        date(year if year and year > 0 else 2000, month, day or 1)
    except ValueError:
        return False
    return True


def _orders(one: str, two: str, three: str, sign: str) -> list[tuple[int | None, int | None, int | None]]:
    first, second, third = int(one), int(two), int(three)
    if len(one) == 4:
        return [(first, second, third)]
    if len(three) not in {2, 4} or len(one) > 2:
        return []
    year = third if len(three) == 4 else 2000 + third if third < 70 else 1900 + third
    by_day = (year, second, first)
    return [by_day] if sign == "." else list(dict.fromkeys([by_day, (year, first, second)]))


def _clock(text: str) -> tuple[int | None, str | None] | None:
    folded = text.strip().casefold()
    if folded in _NAMED_TIMES:
        hour, minute, second = _NAMED_TIMES[folded]
        return hour * 3600 + minute * 60 + second, None
    found = _TIME.fullmatch(text.strip())
    if not found:
        return None
    hour, minute, second = int(found[1]), int(found[2] or 0), int(found[3] or 0)
    half = (found[5] or "").casefold()
    if hour > 24 or minute > 59 or second > 59 or (half and not 1 <= hour <= 12):
        return None
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    zone = found[6].upper() if found[6] else None
    return hour * 3600 + minute * 60 + second, "UTC" if zone in {"Z", "GMT", "+00:00", "+0000"} else zone


def _with_month(text: str) -> Moment | None:
    """Read a date whose month is a word: `5 March 2024`, `le 5 mars`, `March 5th, 2024 at 3 pm`."""
    clock: tuple[int | None, str | None] | None = (None, None)
    if at := re.search(r"\s(?:at|um|à|,)\s*(?=\d{1,2}(?::\d{2}|\s*[ap]\.?m))", text, re.IGNORECASE):
        text, clock = text[: at.start()], _clock(text[at.end() :])
    if not any(word[:MONTH_START] in MONTH_STARTS for word in _WORD.findall(text.casefold())):
        return None
    months, names = _names()
    month, numbers, years = None, list[int](), list[int]()
    for token in re.findall(r"\d+(?:st|nd|rd|th|er|\.|º|ª)?|[^\W\d_]+|[^\s,]", text.casefold()):
        if token[0].isdigit():
            digits = int(re.match(r"\d+", token)[0])  # type: ignore[index]
            (years if len(token) == 4 and token.isdigit() else numbers).append(digits)
        elif token in months and month is None:
            month = months[token]
        elif token not in names and token not in _FILLERS and token != _STOP:
            return None
    if month is None or len(numbers) > 1 or len(years) > 1 or not (numbers or years):
        return None
    return _made([(years[0] if years else None, month, numbers[0] if numbers else None)], clock)


MONTH_START = 3
MONTH_STARTS = frozenset(
    [
        "abr",
        "ago",
        "aoû",
        "apr",
        "aug",
        "avr",
        "cze",
        "dec",
        "dez",
        "dic",
        "déc",
        "ene",
        "feb",
        "fev",
        "fév",
        "gen",
        "giu",
        "gru",
        "jan",
        "jui",
        "jul",
        "jun",
        "kwi",
        "lip",
        "lis",
        "lug",
        "lut",
        "maa",
        "mag",
        "mai",
        "maj",
        "mar",
        "may",
        "mei",
        "mrt",
        "mär",
        "nov",
        "oct",
        "okt",
        "ott",
        "out",
        "paź",
        "sep",
        "set",
        "sie",
        "sty",
        "wrz",
        "авг",
        "апр",
        "дек",
        "июл",
        "июн",
        "май",
        "мар",
        "мая",
        "ноя",
        "окт",
        "сен",
        "фев",
        "янв",
    ]
)
"""With which the months' names begin, in all ten languages: spares texts without one the loading of the names."""


@cache
def _names() -> tuple[dict[str, int], frozenset[str]]:
    """Return month by name and abbreviation, and the names of the days of the week."""
    from babel import Locale  # noqa: PLC0415  # for the texts that hold digits and words only

    months, clashes, days = dict[str, int](), set[str](), set[str]()
    for language in LANGUAGES:
        locale = Locale(language)
        for context in ("format", "stand-alone"):
            for width in ("wide", "abbreviated"):
                for number, name in locale.months[context][width].items():
                    plain = name.casefold().rstrip(".")
                    if months.setdefault(plain, number) != number:
                        clashes.add(plain)
                days |= {name.casefold().rstrip(".") for name in locale.days[context][width].values()}
    months |= {"sept": 9}
    return {name: number for name, number in months.items() if name not in clashes}, frozenset(days)
