"""Survey: a look at one whole file before its rows are read.

Comes in: a path. Goes out: `Survey`: of which form the rows are, the digest, and the blocks that the file is read in.
The line numbers of a block can only be counted, so that the file is read once here and once more to be labelled:
0.2 of the 10 seconds of processor time that 100,000 rows take (decisions/0009).
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from itertools import islice

from turnout.training.labels.stored import digest_file
from turnout.training.logs.entries import RECOGNISED_BY_ROWS, form_of
from turnout.training.logs.lines import WHOLE, TextReader
from turnout.training.logs.reading import Reading
from turnout.training.logs.stored_files import LogFile
from turnout.training.logs.tables import FileKind, kind_of, parquet_blocks, read_rows
from turnout.training.pipeline.messages import Survey


def survey(path: LogFile, reading: Reading, block_bytes: int) -> Survey:
    """Return what a look at the file shows.

    Args:
        path: the file.
        reading: how it is to be read.
        block_bytes: about how much decompressed text a block of JSON lines holds; other text is read as a whole, a
            Parquet file by row groups.

    Raises:
        DataRefused: the file is absent, can't be read, or is a damaged Parquet file.
    """
    kind = kind_of(path)
    form = form_of(list(islice(read_rows(path), RECOGNISED_BY_ROWS)), reading).name
    if kind is FileKind.LINES:
        return _survey_lines(path, form, block_bytes)
    blocks = parquet_blocks(path) if kind is FileKind.PARQUET else [WHOLE]
    return Survey(kind, form, digest_file(path), blocks, _size(path))


def _survey_lines(path: LogFile, form: str, block_bytes: int) -> Survey:
    sha256 = hashlib.sha256()
    with closing(TextReader(path)) as text:
        blocks = list(text.blocks(block_bytes, (lambda _: None) if text.is_compressed else sha256.update))
        digest = digest_file(path) if text.is_compressed else sha256.hexdigest()
        return Survey(FileKind.LINES, form, digest, blocks, text.position)


def _size(path: LogFile) -> int:
    with path.open("rb") as file:
        return file.seek(0, 2)
