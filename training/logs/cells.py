"""Cells: one field of a row, whichever file it came from, as JSON that a struct can be decoded from.

Comes in: undecoded JSON of a JSONL row, or the plain value of a CSV or Parquet cell. Goes out: a value that
msgspec encodes, with JSON that stands as text inside a text cell, or inside JSON, unwrapped.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from functools import cache
from typing import Any, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)

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
        return _number(value)
    text = _text(value)
    if text is None or (kind is CellKind.TEXT_OR_STRUCTURE and not _is_structure(text)):
        return value
    return _structure(text)


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
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
    return msgspec.Raw(text.encode()) if text.strip() else None


def _is_structure(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
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
