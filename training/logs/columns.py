"""Columns: what the cells of an unknown table hold, and which column to name to read it.

Comes in: cells of the first rows. Goes out: the end of a message that proposes a column map by content, never by place.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

_ID = re.compile(r"[A-Za-z0-9_.:-]{4,200}")
_BODY = re.compile(r'"(?:messages|input|prompt)"\s*:')
_MESSAGES = re.compile(r'\s*\[\s*\{[^}]{0,200}"role"')


_NAME = re.compile(r"[^\W\d][\w.:/()\[\]-]*(?: [\w.:/()\[\]-]+){0,2}")
MAX_NAME_CHARS = 40


def listed(names: Iterable[str]) -> str:
    """Return the names of columns for a message; not where some are no names but texts, as without a header line."""
    known = list(names)
    if all(is_name(name) for name in known):
        return ", ".join(known[:40])
    return f"{len(known)} columns, which are no names but texts: is the header line missing?"


def is_name(column: str) -> bool:
    """Whether it looks like the name of a column: three words at most, of which none is a long number."""
    return len(column) <= MAX_NAME_CHARS and _NAME.fullmatch(column) is not None and not re.search(r"\d{4}", column)


def kind_of_cell(value: Any) -> str:
    """Return `body`, `messages`, `text`, `id` or `other`."""
    if isinstance(value, msgspec.Raw):
        raw = bytes(value)
        text = raw.decode(errors="replace")
        if raw[:1] == b'"':
            try:
                text = msgspec.json.decode(raw, type=str)
            except msgspec.DecodeError:
                return "other"
        elif raw[:1] not in (b"{", b"["):
            return "other"
    elif isinstance(value, dict | list):
        try:
            text = msgspec.json.encode(value).decode()
        except (TypeError, ValueError):
            return "other"
    else:
        text = value if isinstance(value, str) else ""
    return _kind_of_text(text)


def _kind_of_text(text: str) -> str:
    start = text.lstrip()[:1]
    if start == "{":
        return "body" if _BODY.search(text) else "other"
    if start == "[":
        return "messages" if _MESSAGES.match(text) else "other"
    if len(text.split()) > 2 or (not text.isascii() and len(text) > 4):
        return "text"
    has_digit, has_letter = any(map(str.isdigit, text)), any(map(str.isalpha, text))
    return "id" if has_digit and (has_letter or len(text) >= 8) and _ID.fullmatch(text) else "other"


def proposal(kinds: Counter[str], without: str = "") -> str:
    """Return which column seems to hold the requests, as the end of a message; without any, how to name one."""
    for kind, ours in (("body", "request"), ("messages", "messages"), ("text", "prompt")):
        found = [
            (count, name)
            for key, count in kinds.items()
            for one, _, name in (key.partition("\0"),)
            if one == kind and name != without and is_name(name)
        ]
        if found:
            most = max(count for count, _ in found)
            names = [name for count, name in found if count == most]
            others = f" (or {', '.join(names[1:4])})" if names[1:] else ""
            return f"; by its content it may be {names[0]}{others}: --column {ours}={names[0]}"
    return "; no column holds texts of several words: name the one with the requests, --column prompt=NAME"
