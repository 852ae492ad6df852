"""Lines: a text file, plain or compressed, as numbered lines of bytes.

Comes in: a path. Goes out: `Line`s in order, each a line's bytes or the reason why it has none; or the `Block`s that
a file is cut into, to be read apart. Damage inside a compressed stream ends the file with one `truncated` line; what
came before is kept.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import BinaryIO

import pyarrow as pa

from turnout.training.errors import DataRefused
from turnout.training.logs.quarantine import Reason
from turnout.training.logs.stored_files import LogFile, why

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
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
"""What Excel and PowerShell begin a file with that is not UTF-8: read as compressed text is, in order."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end; `reason` is set where the bytes could not be had.

    Attributes:
        number: counts from 1, blank lines included.
        is_open: whether the file ends without ending the line: a log that was cut off does.
    """

    number: int
    content: bytes
    reason: Reason | None = None
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a file that are read on their own.

    Attributes:
        start: offset of the first byte in the decompressed text; of a Parquet file, its first row group.
        end: offset behind the last byte (row group); None up to the end of the file, damage included.
        line: number of the line (row) before the first.
    """

    start: int = 0
    end: int | None = None
    line: int = 0


WHOLE = Block()


class TextReader:
    """One text file, plain or compressed, whose blocks are read in rising order.

    A plain file is read at the offset; a compressed one is decompressed up to there, and what was decompressed for
    the block before is not done again.

    Raises:
        DataRefused: here and while reading: the file is absent or can't be read.
    """

    def __init__(self, path: LogFile) -> None:
        self.path = path
        self.position = 0
        with _refusing(path):
            self._file = path.open("rb")
            self.is_compressed = _is_compressed(self._file)
        self._chunks = _chunks(self._file)
        self._rest = b""

    def close(self) -> None:
        """Close the file; a reader that is not closed closes it at its end."""
        self._file.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def lines(self, block: Block = WHOLE) -> Iterator[Line]:
        """Yield the lines of a block, blank ones included."""
        with _refusing(self.path):
            if self.is_compressed:
                for _ in self._until(block.start):
                    pass
            elif block.start != self.position:
                self._file.seek(block.start)
                self._chunks, self._rest, self.position = _plain_chunks(self._file), b"", block.start
            yield from _split(self._until(block.end), block.line + 1)

    def blocks(self, size: int, digest: Callable[[bytes], object] = lambda _: None) -> Iterator[Block]:
        """Cut the whole file into blocks of about `size` decompressed bytes; `digest` is given all of these bytes."""
        start = line = n_lines = 0
        with _refusing(self.path):
            for chunk in self._until(None):
                if chunk is None:
                    break
                digest(chunk)
                if self.position - start >= size and (last := chunk.rfind(b"\n") + 1):
                    end = self.position - len(chunk) + last
                    n_lines += chunk.count(b"\n")
                    yield Block(start, end, line)
                    start, line = end, n_lines
                else:
                    n_lines += chunk.count(b"\n")
            else:
                if self.position > start:
                    yield Block(start, self.position, line)
                return
        yield Block(start, None, line)  # so that its reader meets the damage too

    def _until(self, end: int | None) -> Iterator[bytes | None]:
        while end is None or self.position < end:
            chunk = self._rest or next(self._chunks, b"")
            if not chunk:
                if chunk is None:
                    yield None
                return
            wanted = len(chunk) if end is None else end - self.position
            self._rest = chunk[wanted:]
            self.position += min(wanted, len(chunk))
            yield chunk[:wanted]


def read_lines(path: LogFile) -> Iterator[Line]:
    """Yield every line of `path`, blank ones included; gzip, zstd, bzip2 and xz are known by their first bytes.

    Raises:
        DataRefused: the file is absent or can't be read.
    """
    with closing(TextReader(path)) as text:
        yield from text.lines()


def read_document(path: LogFile) -> bytes | None:
    """Return the whole content, decompressed; None where it is damaged or above 256 MiB.

    Raises:
        DataRefused: the file is absent or can't be read.
    """
    pieces, size = list[bytes](), 0
    with _refusing(path), path.open("rb") as file:
        for chunk in _chunks(file):
            size += len(chunk or b"")
            if chunk is None or size > MAX_DOCUMENT_BYTES:
                return None
            pieces.append(chunk)
    return b"".join(pieces).removeprefix(BOM)


@contextmanager
def _refusing(path: LogFile) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataRefused(f"{path}: cannot be read: {why(error)}") from error


def _is_compressed(file: BinaryIO) -> bool:
    magic = file.read(len(XZ_MAGIC))
    file.seek(0)
    return magic.startswith((GZIP_MAGIC, ZSTD_MAGIC, BZ2_MAGIC, XZ_MAGIC, *UTF16_BOMS))


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
    elif magic.startswith(UTF16_BOMS):
        yield from _utf8_chunks(file)
    else:
        yield from _plain_chunks(file)


def _utf8_chunks(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield UTF-16 as UTF-8; None where it is no UTF-16 any more."""
    decoder = codecs.getincrementaldecoder("utf-16")()
    for chunk in chain(_plain_chunks(file), (b"",)):
        try:
            yield decoder.decode(chunk, final=not chunk).encode()
        except UnicodeError:
            yield None
            return


def _plain_chunks(file: BinaryIO) -> Iterator[bytes]:
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


def _split(chunks: Iterator[bytes | None], number: int) -> Iterator[Line]:
    # Pieces are joined once a line: appending to one buffer is quadratic in a long line's length.
    pieces, size = list[bytes](), 0
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
        yield replace(_line(number, pieces, size), is_open=True)


def _line(number: int, pieces: list[bytes], size: int) -> Line:
    if size > MAX_LINE_BYTES:
        return Line(number, b"", Reason.TOO_LONG)
    content = b"".join(pieces).removesuffix(b"\r")
    return Line(number, content.removeprefix(BOM) if number == 1 else content)
