"""Nearly JSON: what other tools write and a strict parser refuses, read where its meaning is plain.

Comes in: the text of a line or of a whole document. Goes out: fields of a row, or the elements of a document. NaN and
infinity stay numbers, which later steps refuse in a score and overlook elsewhere; a lone surrogate becomes U+FFFD.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import msgspec

_DECODER = json.JSONDecoder(strict=False)
_SURROGATES = re.compile("[\ud800-\udfff]")
_BETWEEN = re.compile(r"[\s,\x1e]*")
"""Between documents that follow one another: white space, commas, the record separator of RFC 7464."""


class SeveralObjects(ValueError):
    """A line holds more than one JSON document."""


def read_fields(content: bytes) -> dict[str, Any]:
    """Return the fields of a row that strict JSON does not allow.

    Raises:
        SeveralObjects: the line holds several objects.
        ValueError: it is no object at all.
    """
    text = content.decode().strip().strip("\x1e")
    try:
        value, end = _DECODER.raw_decode(text)
    except ValueError:
        value, end = _of_python(text), len(text)
    if text[end:].strip(" \t\r\n,"):
        raise SeveralObjects
    if not isinstance(value, dict):
        raise TypeError("no object")
    return {_clean(str(name)): _clean(one) for name, one in value.items()}


def _of_python(text: str) -> Any:
    if not text.startswith("{"):
        raise ValueError("no JSON")
    try:
        return ast.literal_eval(text)
    except (SyntaxError, MemoryError, TypeError) as error:
        raise ValueError("no JSON") from error


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATES.sub("�", value)
    if isinstance(value, list):
        return [_clean(one) for one in value]
    if isinstance(value, dict):
        return {_clean(name): _clean(one) for name, one in value.items()}
    return value


def document_elements(content: bytes) -> tuple[list[msgspec.Raw], bool] | None:
    """Return the rows of a document that strict JSON does not read as a whole, and whether it was cut off.

    An array, or objects that follow one another however they are laid out. None where not even the first is whole.
    """
    text = content.decode("utf-8-sig", errors="surrogateescape")
    start = len(text) - len(text.lstrip())
    is_array = text.startswith("[", start)
    at, found, is_whole = start + is_array, list[msgspec.Raw](), False
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing too
        is_whole = text.startswith("]", at) if is_array else at == len(text)
        if is_whole or at == len(text):
            break
        try:
            _, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        found.append(msgspec.Raw(text[at:end].encode("utf-8", "surrogateescape")))
        at = end
    return (found, not is_whole) if found else None
