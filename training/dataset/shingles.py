"""Shingles: what texts are compared by, as hashes on disk, so that memory does not grow with their length.

Comes in: texts. Goes out: the distinct 3-word shingles of each as sorted 64-bit hashes, of which `ShingleFile` keeps
any number in a file and 8 bytes a row in memory. They are hashes and no text; two of the 80,000,000 shingles of a
million rows share one with a probability of 2e-4.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from turnout.training.errors import DataRefused

Hashes = NDArray[np.uint64]
HASHED_AT_ONCE = 256
"""Texts whose shingles are held as strings; of one prompt of the reference rows they take 9 kB."""
BLOCK_HASHES = 1 << 18
"""About how many shingles are read at a time, 2 MiB; a row is never cut."""
_WORD = re.compile(r"\w+")


def shingle_hashes(texts: Iterable[str]) -> Iterator[Hashes]:
    """Yield the shingles of each text, by the hash that rensa's signatures rest on; none where it has no words."""
    left = iter(texts)
    while some := list(islice(left, HASHED_AT_ONCE)):
        for hashes in RMinHash.hash_token_sets([_shingles(text) for text in some]):
            yield np.unique(np.array(hashes, dtype=np.uint64))


class ShingleFile:
    """The shingles of rows, by number; opened by `shingle_file`."""

    def __init__(self, file: IO[bytes], folder: str) -> None:
        """Keep rows in an empty file; `folder` is where it takes its room, for messages."""
        self._file, self._folder = file, folder
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def n_hashes(self) -> int:
        """How many shingles all rows have together."""
        return self._ends[-1]

    def add(self, rows: Iterable[Hashes]) -> None:
        """Keep further rows.

        Raises:
            DataRefused: the disk is full.
        """
        try:
            for hashes in rows:
                self._file.write(hashes.tobytes())
                self._ends.append(self._ends[-1] + hashes.size)
            self._file.flush()
        except OSError as error:
            raise DataRefused(
                f"{self._folder}: no place for the shingles of prompts, some 8 bytes a word: {error.strerror}; "
                "make room there, or use another folder (TMPDIR; of `label`, --out)"
            ) from error

    def row(self, number: int) -> Hashes:
        """Return the shingles of a row."""
        return self._read(self._ends[number], self._ends[number + 1])

    def blocks(self) -> Iterator[tuple[Hashes, NDArray[np.int64]]]:
        """Yield the shingles of some rows after one another, and where each row ends in them."""
        ends = np.array(self._ends, dtype=np.int64)
        first = 0
        while first < len(self):
            last = max(first + 1, int(np.searchsorted(ends, ends[first] + BLOCK_HASHES, "right")) - 1)
            yield self._read(ends[first], ends[last]), ends[first + 1 : last + 1] - ends[first]
            first = last

    def _read(self, start: int, end: int) -> Hashes:
        self._file.seek(8 * int(start))
        return np.frombuffer(self._file.read(8 * int(end - start)), dtype=np.uint64)


@contextlib.contextmanager
def shingle_file(folder: Path | None = None) -> Iterator[ShingleFile]:
    """Open a file without a name, which goes when it is closed, or when the process is killed.

    Args:
        folder: where it takes its room; None for the system's folder of temporary files.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        yield ShingleFile(file, str(folder or tempfile.gettempdir()))


def _shingles(text: str) -> list[str]:
    words = _WORD.findall(text.casefold())
    if len(words) < 3:
        return [" ".join(words)] if words else []
    return list(map(" ".join, zip(words, words[1:], words[2:], strict=False)))
