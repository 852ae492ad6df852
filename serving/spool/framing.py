"""The bytes of a spool file: a header, then records that each carry their length and checksum.

Payloads in, bytes out, and back again: `framed` and `unframed` are inverse, and `unframed` never
raises and never returns a payload that was not framed for that very place of that very file.
"""

from __future__ import annotations

import enum
import struct
import zlib
from dataclasses import dataclass

FORMAT_VERSION = 1
MAGIC = b"TURNSPL\n"
MARKER = b"\xffREC"
"""Begins a record. 0xFF is in no UTF-8 text: what callers write into an outcome can't look like a record."""

MAX_PAYLOAD_BYTES = 1 << 20
"""A longer length is damage; bounds what a search for the next intact record reads for one candidate."""

_HEADER = struct.Struct("<8sHxxI")  # magic, version, salt; the checksum of these follows
_CHECKSUM = struct.Struct("<I")
_RECORD = struct.Struct("<4sIIB")  # marker, payload length, checksum, kind
_COVERED = struct.Struct("<QIB")  # offset, payload length, kind: checksummed with the payload
HEADER_BYTES = _HEADER.size + _CHECKSUM.size
RECORD_BYTES = _RECORD.size


class RecordKind(enum.IntEnum):
    """What a record holds. Readers pass over kinds that they do not know."""

    OUTCOME = 1
    DECISION = 2
    CHECK = 3


@dataclass(frozen=True, slots=True)
class Framed:
    """One intact record: what it holds, where it begins and where the next one begins, in bytes."""

    kind: int
    payload: bytes
    offset: int
    end: int


def file_header(salt: int) -> bytes:
    """Return the header of a file whose records are checksummed from `salt`, 32 random bits."""
    head = _HEADER.pack(MAGIC, FORMAT_VERSION, salt)
    return head + _CHECKSUM.pack(zlib.crc32(head))


def read_header(raw: bytes) -> tuple[int, int] | None:
    """Return version and salt of a file; None when its header is short or damaged."""
    if len(raw) < HEADER_BYTES:
        return None
    magic, version, salt = _HEADER.unpack_from(raw)
    (checksum,) = _CHECKSUM.unpack_from(raw, _HEADER.size)
    if magic != MAGIC or checksum != zlib.crc32(raw[: _HEADER.size]):
        return None
    return version, salt


def framed(kind: int, payload: bytes, salt: int, offset: int) -> bytes:
    """Return the bytes of a record that is to begin at `offset` of the file with this salt."""
    return _RECORD.pack(MARKER, len(payload), _checksum(kind, payload, salt, offset), kind) + payload


def unframed(raw: bytes, salt: int, offset: int) -> Framed | None:
    """Return the record that begins at `offset` of a whole file; None when none does, or a damaged one."""
    begin = offset + RECORD_BYTES
    if begin > len(raw):
        return None
    marker, length, checksum, kind = _RECORD.unpack_from(raw, offset)
    end = begin + length
    if marker != MARKER or length > MAX_PAYLOAD_BYTES or end > len(raw):
        return None
    payload = raw[begin:end]
    if checksum != _checksum(kind, payload, salt, offset):
        return None
    return Framed(kind, payload, offset, end)


def _checksum(kind: int, payload: bytes, salt: int, offset: int) -> int:
    # zlib's CRC-32 is in the standard library and finds the same errors at this length as CRC-32C would (every
    # burst of up to 32 bits). It starts from the file's salt and covers the offset: a record inside a payload, or
    # moved from elsewhere, is none.
    return zlib.crc32(payload, zlib.crc32(_COVERED.pack(offset, len(payload), kind), salt))
