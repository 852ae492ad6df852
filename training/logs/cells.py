"""Cells: one field of a row, whichever file it came from, as JSON that a struct can be decoded from.

Comes in: undecoded JSON of a JSONL row, or the plain value of a CSV or Parquet cell. Goes out: a value that
msgspec encodes, with JSON that stands as text inside a text cell, or inside JSON, unwrapped.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from enum import Enum, auto
from functools import cache
from typing import Any, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)

TRUTHS = {"true": 1.0, "false": 0.0}
NOTHING = frozenset({"null", "none", "na", "n/a", "\\n"})
"""What tables write where they have nothing; `nan` is not among them: a broken score is no missing one."""

_PYTHON = re.compile(r"\s*(\[\s*)*\{\s*'|\s*\[\s*'")
"""JSON has no `'` where a key or a text begins."""

_NUMPY_ROWS = re.compile(r"\}\s*\n\s*\{")
"""NumPy sets no comma between the elements of an array; a line end within a text is written as an escape."""

_DECIMAL_COMMA = re.compile(r"[01],\d+")

encode = msgspec.json.Encoder(decimal_format="number").encode


class CellKind(Enum):
    """What the text of a cell may stand for."""

    STRUCTURE = auto()
    """JSON, always: other text is damage."""
    TEXT_OR_STRUCTURE = auto()
    """Text, unless it reads as a JSON object or array."""
    NUMBER = auto()
    """A number, where it reads as one."""


def cell(value: Any, kind: CellKind | None) -> Any:
    """Return the value with text turned into the JSON or the number that it holds."""
    if kind is None:
        return value
    if kind is CellKind.NUMBER:
        return number(value)
    text = _text(value)
    if text is None or (kind is CellKind.TEXT_OR_STRUCTURE and not _is_structure(text)):
        return value
    return _structure(text)


def number(value: Any) -> Any:
    """Return the number that a text stands for, or what True and False count as; anything else as it is."""
    text = _text(value)
    if text is None:
        return value
    text = text.strip()
    if not text or text.casefold() in NOTHING:
        return None
    if text.casefold() in TRUTHS:
        return TRUTHS[text.casefold()]
    if _DECIMAL_COMMA.fullmatch(text):  # a `,` in a number of 0 to 1 is never one of thousands
        text = text.replace(",", ".")
    try:
        return float(text)
    except ValueError:
        return value


def _text(value: Any) -> str | None:
    """Return the text of a text cell or of a JSON string; None of anything else."""
    if not isinstance(value, msgspec.Raw) or bytes(value)[:1] != b'"':
        return value if isinstance(value, str) else None
    try:
        return msgspec.json.decode(value, type=str)
    except msgspec.DecodeError:
        return None


def _structure(text: str) -> msgspec.Raw | None:
    if not text.strip():
        return None
    return msgspec.Raw(encode(_python(text)) if _PYTHON.match(text) else text.encode())


def _python(text: str) -> Any:
    """Return what the `repr` of Python or NumPy says, which is what `to_csv` makes of lists and dicts.

    Raises:
        msgspec.DecodeError: it says nothing.
    """
    try:
        return ast.literal_eval(_NUMPY_ROWS.sub("}, {", text.strip()))
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise msgspec.DecodeError("neither JSON nor a Python literal") from error


def _is_structure(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        _python(text) if _PYTHON.match(text) else msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return False
    return True


def decode_fields(fields: Mapping[str, Any], struct: type[T], kinds: Mapping[str, CellKind]) -> T:
    """Return those fields of a row that `struct` names.

    Args:
        fields: as they stand in the file.
        struct: a struct whose encoded names are those of the file.
        kinds: of the fields whose cells may hold JSON or numbers as text.

    Raises:
        msgspec.DecodeError: a field is no JSON or of the wrong type.
    """
    known = {name: cell(fields[name], kinds.get(name)) for name in _names(struct) & fields.keys()}
    return msgspec.json.decode(encode(known), type=struct)


@cache
def _names(struct: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(struct))
