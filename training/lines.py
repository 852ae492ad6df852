"""Lines: a text file, plain or compressed, as numbered lines of bytes.

Comes in: a path. Goes out: `Line`s in order, each a line's bytes or the reason why it has none.
Damage inside a compressed stream ends the file with one `truncated` line; what came before is kept.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from training.errors import DataRefused
from training.quarantine import Reason

MAX_LINE_BYTES = 16 << 20
"""Longer lines go to quarantine: four times what the service accepts as a request, with both answers."""

MAX_DOCUMENT_BYTES = 256 << 20
"""A JSON document has to be held whole to be read; larger exports are to be had as JSON lines."""

PLAIN_CHUNK_BYTES = 1 << 20
DAMAGE_CHUNK_BYTES = 8 << 10
"""How much is asked of a decompressor at a time: on damage, at most this much good text is lost with the bad."""

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
BZ2_MAGIC = b"BZh"
XZ_MAGIC = b"\xfd7zXZ\x00"
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end; `reason` is set where the bytes could not be had.

    Attributes:
        number: counts from 1, blank lines included.
    """

    number: int
    content: bytes
    reason: Reason | None = None


def read_lines(path: Path) -> Iterator[Line]:
    """Yield every line of `path`, blank ones included; gzip, zstd, bzip2 and xz are known by their first bytes.

    Raises:
        DataRefused: the file is absent or can't be read.
    """
    try:
        with path.open("rb") as file:
            yield from _split(_chunks(file))
    except OSError as error:
        raise DataRefused(f"{path}: cannot be read: {error.strerror or error}") from error


def read_document(path: Path) -> bytes | None:
    """Return the whole content, decompressed; None where it is damaged or above 256 MiB.

    Raises:
        DataRefused: the file is absent or can't be read.
    """
    pieces, size = list[bytes](), 0
    try:
        with path.open("rb") as file:
            for chunk in _chunks(file):
                size += len(chunk or b"")
                if chunk is None or size > MAX_DOCUMENT_BYTES:
                    return None
                pieces.append(chunk)
    except OSError as error:
        raise DataRefused(f"{path}: cannot be read: {error.strerror or error}") from error
    return b"".join(pieces).removeprefix(BOM)


def _chunks(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield the decompressed bytes; None where the stream is damaged, after which nothing follows."""
    magic = file.read(len(XZ_MAGIC))
    file.seek(0)
    if magic.startswith(GZIP_MAGIC):
        yield from _until_damaged(gzip.GzipFile(fileobj=file).read1)
    elif magic.startswith(ZSTD_MAGIC):
        yield from _until_damaged(pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd").read)
    elif magic.startswith(BZ2_MAGIC):
        yield from _until_damaged(bz2.BZ2File(file).read1)
    elif magic == XZ_MAGIC:
        yield from _until_damaged(lzma.LZMAFile(file).read1)  # noqa: SIM115 its caller closes the file
    else:
        while chunk := file.read(PLAIN_CHUNK_BYTES):
            yield chunk


def _until_damaged(read: Callable[[int], bytes]) -> Iterator[bytes | None]:
    while True:
        try:
            chunk = read(DAMAGE_CHUNK_BYTES)
        except (EOFError, OSError, zlib.error, lzma.LZMAError):
            yield None
            return
        if not chunk:
            return
        yield chunk


def _split(chunks: Iterator[bytes | None]) -> Iterator[Line]:
    # Pieces are joined once a line: appending to one buffer is quadratic in a long line's length.
    number, pieces, size = 1, list[bytes](), 0
    for chunk in chunks:
        if chunk is None:
            yield Line(number, b"", Reason.TRUNCATED)
            return
        *whole, rest = chunk.split(b"\n")
        for end in whole:
            yield _line(number, [*pieces, end], size + len(end))
            number, pieces, size = number + 1, [], 0
        size += len(rest)
        if size <= MAX_LINE_BYTES:
            pieces.append(rest)
        else:
            pieces.clear()
    if size:
        yield _line(number, pieces, size)


def _line(number: int, pieces: list[bytes], size: int) -> Line:
    if size > MAX_LINE_BYTES:
        return Line(number, b"", Reason.TOO_LONG)
    content = b"".join(pieces).removesuffix(b"\r")
    return Line(number, content.removeprefix(BOM) if number == 1 else content)
