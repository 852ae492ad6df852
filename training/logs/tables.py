"""Tables: Parquet, CSV, JSONL and JSON documents as rows of named fields.

Comes in: a path, and which block of the file. Goes out: `RawRow`s in order, undecoded beyond their field names, so
that one decoder (`training.logs.rows`) serves all formats. The format is known by the file's first bytes, CSV by its
suffix. A JSON document, an array of rows or one object over many lines, is read as if each element were a line.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from turnout.training.errors import DataRefused
from turnout.training.logs.lines import MAX_LINE_BYTES, WHOLE, Block, Line, TextReader, read_document, read_lines
from turnout.training.logs.nearly_json import SeveralObjects, document_elements, read_fields
from turnout.training.logs.quarantine import Reason
from turnout.training.logs.stored_files import LogFile, why

PARQUET_MAGIC = b"PAR1"
PARQUET_BATCH_ROWS = 2048
MAX_ID_BYTES = 64
COMPRESSED_SUFFIXES = frozenset({".gz", ".zst", ".bz2", ".xz"})
CSV_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
OTHER_DELIMITERS = (",", ";", "\t", "|")
"""What tables are written with where a comma is a decimal sign; the first line says which."""

_QUOTED = re.compile(r'"[^"]*"')
_SEPARATOR_LINE = re.compile(r"sep=(.)\s*")
"""The first line by which Excel is told the delimiter."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as field name to value: undecoded JSON (`msgspec.Raw`) or the plain value of a table's cell.

    Attributes:
        line: line of a text file, row of a Parquet file, element of a JSON array; counts from 1.
        reason: set where there are no fields to be had.
        index: which of the requests on that line, from 0; set by `turnout.training.logs.read`.
    """

    line: int
    fields: dict[str, Any]
    reason: Reason | None = None
    index: int = 0


class FileKind(StrEnum):
    """How the rows of a file are to be got at."""

    LINES = "lines"
    """JSON lines; can be read in blocks."""
    PARQUET = "parquet"
    """Can be read by row groups."""
    CSV = "csv"
    DOCUMENT = "document"


def kind_of(path: LogFile) -> FileKind:
    """Return the kind of a file by its first bytes and its suffix.

    Raises:
        DataRefused: the file is absent or can't be read.
    """
    if _is_parquet(path):
        return FileKind.PARQUET
    if _delimiter(path):
        return FileKind.CSV
    return FileKind.LINES if not _may_be_document(path) or _document_elements(path) is None else FileKind.DOCUMENT


def read_rows(path: LogFile) -> Iterator[RawRow]:
    """Yield the rows of a Parquet, CSV, JSONL or JSON file; blank lines are skipped.

    Raises:
        DataRefused: the file is absent, can't be read, or is a damaged Parquet file.
    """
    if _is_parquet(path):
        return parquet_rows(path)
    if _delimiter(path):
        return csv_rows(path)
    elements = _document_elements(path) if _may_be_document(path) else None
    return _jsonl_rows(path) if elements is None else map(_document_row, range(1, len(elements) + 1), elements)


def _is_parquet(path: LogFile) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
    except OSError as error:
        raise DataRefused(f"{path}: cannot be read: {why(error)}") from error


def _suffixes(path: LogFile) -> list[str]:
    return [suffix.lower() for suffix in path.suffixes if suffix.lower() not in COMPRESSED_SUFFIXES]


def _delimiter(path: LogFile) -> str | None:
    suffixes = _suffixes(path)
    return CSV_DELIMITERS.get(suffixes[-1]) if suffixes else None


_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _may_be_document(path: LogFile) -> bool:
    """Look at the first line: an array opens with a bracket; an object over many lines is known by `.json` too."""
    first = next((line for line in read_lines(path) if line.reason or line.content.strip()), None)
    if first is None:
        return False
    if first.reason is Reason.TOO_LONG or first.content.lstrip().startswith(b"["):
        return True
    return _jsonl_row(first).reason in {Reason.INVALID_JSON, Reason.SEVERAL_OBJECTS, Reason.TRUNCATED}


def _document_elements(path: LogFile) -> list[msgspec.Raw | None] | None:
    """Return the elements of a document, at its end None where it is cut off; None where it is none."""
    content = read_document(path)
    if content is None:
        return None
    try:
        if content.lstrip().startswith(b"["):
            return list(msgspec.json.decode(content, type=list[msgspec.Raw]))
        return [msgspec.json.decode(content, type=msgspec.Raw)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    if _is_json(content.lstrip().partition(b"\n")[0]):  # lines of which each is an array
        return None
    read = document_elements(content)
    return None if read is None else [*read[0], *([None] if read[1] else [])]


def _is_json(content: bytes) -> bool:
    try:
        msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _document_row(number: int, element: msgspec.Raw | None) -> RawRow:
    if element is None:
        return RawRow(number, {}, Reason.TRUNCATED)
    return _jsonl_row(Line(number, bytes(element)))


def _jsonl_rows(path: LogFile) -> Iterator[RawRow]:
    with closing(TextReader(path)) as text:
        yield from jsonl_rows(text)


def jsonl_rows(text: TextReader, block: Block = WHOLE) -> Iterator[RawRow]:
    """Yield the rows of a block of JSON lines; blank lines are skipped."""
    for line in text.lines(block):
        if line.reason or line.content.strip():
            yield _jsonl_row(line)


def document_rows(path: LogFile) -> Iterator[RawRow]:
    """Yield the elements of a JSON document as rows."""
    elements = _document_elements(path) or []
    return map(_document_row, range(1, len(elements) + 1), elements)


def _jsonl_row(line: Line) -> RawRow:
    if line.reason:
        return RawRow(line.number, {}, line.reason)
    try:
        line.content.decode()
        return RawRow(line.number, _decode_fields(line.content))
    except UnicodeDecodeError:
        return RawRow(line.number, {}, Reason.INVALID_UTF8)
    except msgspec.ValidationError:
        return RawRow(line.number, {}, Reason.WRONG_TYPE)
    except (msgspec.DecodeError, RecursionError):
        return _nearly_json_row(line)


def _nearly_json_row(line: Line) -> RawRow:
    try:
        return RawRow(line.number, read_fields(line.content))
    except SeveralObjects:
        return RawRow(line.number, {}, Reason.SEVERAL_OBJECTS)
    except (ValueError, TypeError, RecursionError):
        is_cut = line.is_open and line.content.lstrip().startswith(b"{")
        return RawRow(line.number, {}, Reason.TRUNCATED if is_cut else Reason.INVALID_JSON)


def csv_rows(path: LogFile) -> Iterator[RawRow]:
    """Yield the rows of a CSV or TSV file; a row may span lines, and has the number of its first.

    A row that is no CSV costs its first line: a quote that nobody closes would take all rows up to the next one.
    """
    delimiter = _written_delimiter(path)
    csv.field_size_limit(MAX_LINE_BYTES)  # process-wide; the default of 128 KiB is shorter than a long prompt
    lines = _TextLines(path)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        lines.row.clear()
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error:
            yield RawRow(lines.row[0].number, {}, Reason.INVALID_CSV)
            lines.read_again()
            continue
        if header is None and len(lines.row) == 1 and _SEPARATOR_LINE.fullmatch(lines.row[0].content.decode("latin-1")):
            continue
        if header is None:
            header = [name.strip() for name in cells]
        elif cells:
            yield _csv_row(lines.row[0].number, header, cells)
        yield from lines.unread()
    yield from lines.unread()


def _written_delimiter(path: LogFile) -> str:
    """Return the delimiter of the first line, outside of quotes; that of the suffix where it occurs as often."""
    usual = _delimiter(path) or ","
    first = next((line.content for line in read_lines(path) if line.content.strip()), b"").decode("latin-1")
    if told := _SEPARATOR_LINE.fullmatch(first):
        return told[1]
    bare = _QUOTED.sub("", first)
    return max((usual, *OTHER_DELIMITERS), key=bare.count)


class _TextLines:
    """The lines of a file as text, for `csv.reader`.

    Attributes:
        row: the lines read since it was last cleared.
    """

    def __init__(self, path: LogFile) -> None:
        self.row: list[Line] = []
        self._lines = read_lines(path)
        self._again: deque[Line] = deque()
        self._unread: list[RawRow] = []

    def __iter__(self) -> _TextLines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._next()
        self.row.append(line)
        # Invalid bytes become surrogates here and are refused row by row: strict decoding would lose the whole file.
        return line.content.decode(errors="surrogateescape") + "\n"

    def _next(self) -> Line:
        line = next(self._lines)
        if line.reason:
            self._unread.append(RawRow(line.number, {}, line.reason))
        return line

    def read_again(self) -> None:
        """Give all lines of the row but its first once more."""
        self._again.extendleft(reversed(self.row[1:]))

    def unread(self) -> Iterator[RawRow]:
        """Yield, once, the lines that could not be had."""
        yield from self._unread
        self._unread.clear()


def _csv_row(line: int, header: list[str], cells: list[str]) -> RawRow:
    if len(cells) != len(header):
        return RawRow(line, {}, Reason.WRONG_TYPE)
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return RawRow(line, {}, Reason.INVALID_UTF8)
    return RawRow(line, {name: cell for name, cell in zip(header, cells, strict=True) if cell})


def parquet_rows(path: LogFile, block: Block = WHOLE) -> Iterator[RawRow]:
    """Yield the rows of some row groups; a damaged one ends with a row of that reason, and the next is read."""
    with _parquet(path) as table:
        for group in _groups(table)[block.start : block.end]:
            yield from _group_rows(table, group)
    pa.default_memory_pool().release_unused()  # which it keeps else: some 200 bytes a row of a large log


def parquet_blocks(path: LogFile) -> list[Block]:
    """Return one block for each row group."""
    with _parquet(path) as table:
        return _groups(table)


def _groups(table: pq.ParquetFile) -> list[Block]:
    sizes = [table.metadata.row_group(group).num_rows for group in range(table.metadata.num_row_groups)]
    rows_before = accumulate(sizes, initial=0)
    return [Block(group, group + 1, row) for group, row in zip(range(len(sizes)), rows_before, strict=False)]


@contextmanager
def _parquet(path: LogFile) -> Iterator[pq.ParquetFile]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataRefused(f"{path}: cannot be read: {why(error)}") from error
    with file:
        try:
            table = pq.ParquetFile(file)
        except (OSError, pa.ArrowException) as error:
            raise DataRefused(f"{path}: not a readable Parquet file: {error}") from error
        yield table


def _group_rows(table: pq.ParquetFile, group: Block) -> Iterator[RawRow]:
    row = group.line
    try:
        for batch in table.iter_batches(PARQUET_BATCH_ROWS, row_groups=[group.start]):
            for fields in _batch_rows(_as_micros(batch)):
                row += 1
                yield RawRow(row, fields) if fields is not None else RawRow(row, {}, Reason.INVALID_UTF8)
    except (OSError, pa.ArrowException):
        yield RawRow(row + 1, {}, Reason.TRUNCATED)


def _batch_rows(batch: pa.RecordBatch) -> list[dict[str, Any] | None]:
    has_bytes = any(_holds_bytes(field.type) for field in batch.schema)
    try:
        rows = list(batch.to_pylist(maps_as_pydicts="lossy"))
        return [{name: _as_text(value) for name, value in row.items()} for row in rows] if has_bytes else rows
    except UnicodeDecodeError:  # Arrow doesn't check text; one bad cell would fail the whole batch
        return [_single_row(batch.slice(row, 1)) for row in range(batch.num_rows)]


def _as_micros(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return times in nanoseconds, pandas' usual ones, as microseconds, which are all that Python's know."""
    for number, field in enumerate(batch.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            micros = batch.column(number).cast(pa.timestamp("us", field.type.tz), safe=False)
            batch = batch.set_column(number, field.name, micros)
    return batch


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_holds_bytes(kind.field(number).type) for number in range(kind.num_fields))
    return any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary))


def _as_text(value: Any) -> Any:
    """Return bytes as the text that writers without a mark for text keep in them; other bytes in hex."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex() if len(value) <= MAX_ID_BYTES else None
    if isinstance(value, list):
        return [_as_text(one) for one in value]
    return {_as_text(name): _as_text(one) for name, one in value.items()} if isinstance(value, dict) else value


def _single_row(batch: pa.RecordBatch) -> dict[str, Any] | None:
    try:
        (fields,) = batch.to_pylist(maps_as_pydicts="lossy")
    except UnicodeDecodeError:
        return None
    return dict(fields)
