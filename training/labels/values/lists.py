"""Lists: values of several parts: tuples, sets, lists, intervals, ratios, ranges.

Comes in: the text of a value. Goes out: `Parts`, the texts of its parts with what holds them together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from turnout.training.labels.values.clean import cleaned

MAX_CHARS, MAX_PARTS = 400, 60
_OPENING, _CLOSING = "([{", ")]}"
_AND = re.compile(
    r"\s*(?:,|;|\n|\||、|،)\s*(?:and|und|et|y|e|or|oder|ou|o|en|&)?\s+|\s*(?:,|;|\n|、|،)\s*|\s+(?:and|und|et|or|&|as well as)\s+",  # noqa: E501
    re.IGNORECASE,
)
_OR = re.compile(r"(?:\s|,)(?:or|oder|ou|o)\s", re.IGNORECASE)
_RATIO = re.compile(r"(\d{1,9}(?:\.\d+)?)\s*(?::|to|zu|à|∶)\s*(\d{1,9}(?:\.\d+)?)", re.IGNORECASE)  # noqa: RUF001
_RANGE = re.compile(
    r"(?:between\s+|from\s+)?(-?[$€£]?\d[\d.,]*\s?\w{0,9}?)\s*(?:-|to|bis|à|and|\.\.|…)\s*([$€£]?\d[\d.,]*\s?[\w%]{0,9})",
    re.IGNORECASE,
)
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Parts:
    """A value of several parts.

    Attributes:
        kind: `()`, `[]`, `{}`, a mix such as `[)` for a half-open interval, `` for none, `:` for a ratio, `-` for a range.
        parts: texts, in order.
        is_choice: whether they are joined by "or": `1 or 2` may mean either.
    """  # noqa: E501

    kind: str
    parts: tuple[str, ...]
    is_choice: bool = False


@lru_cache(maxsize=4096)
def parts(text: str) -> Parts | None:
    """Return the parts of a value that has several; None for a single value."""
    if len(text) > MAX_CHARS:
        return None
    text = _BULLET.sub("", text.strip()) if "\n" in text else text
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    plain = ", ".join(map(cleaned, lines)) if len(lines) > 1 else cleaned(text).replace("\\{", "{").replace("\\}", "}")
    if (ratio := _RATIO.fullmatch(plain)) and not re.fullmatch(r"\d{1,2}:\d{2}", plain):
        return Parts(":", (ratio[1], ratio[2]))
    if found := _RANGE.fullmatch(plain):
        return Parts("-", (found[1], found[2]))
    kind, inner = "", plain
    if plain[:1] and plain[0] in _OPENING and plain[-1] in _CLOSING and _closes_last(plain):
        kind, inner = plain[0] + plain[-1], plain[1:-1]
    pieces = _split(inner)
    if pieces is None or (len(pieces) < 2 and kind not in {"[]", "{}"}) or not all(pieces):
        return None
    return Parts(kind, tuple(pieces), is_choice=_OR.search(inner) is not None)


def _closes_last(text: str) -> bool:
    """Whether the first bracket is closed by the last one."""
    depth = 0
    for place, char in enumerate(text):
        depth += (char in _OPENING) - (char in _CLOSING)
        if depth == 0:
            return place == len(text) - 1
    return False


def _split(text: str) -> list[str] | None:
    """Split at commas and joining words outside brackets; a comma inside a number (`1,000`) is none."""
    pieces, start, depth, place = list[str](), 0, 0, 0
    while place < len(text):
        char = text[place]
        depth += (char in _OPENING) - (char in _CLOSING)
        if depth < 0:
            return None
        found = _AND.match(text, place) if depth == 0 and (char in " ,;|、،" or char == "\n") else None
        if found and found.end() > place and not _in_number(text, found):
            pieces.append(text[start:place].strip())
            start = place = found.end()
            if len(pieces) > MAX_PARTS:
                return None
        else:
            place += 1
    pieces.append(text[start:].strip())
    return pieces if depth == 0 else None


def _in_number(text: str, found: re.Match[str]) -> bool:
    if found[0] != ",":
        return False
    grouped = re.match(r"\d{3}(?!\d)", text[found.end() :])
    before = re.search(r"(?<!\d)\d{1,3}$", text[: found.start()])
    is_lone = text.count(",") == 1
    return bool(grouped and before and before[0] != "0" and is_lone)
