"""Duplicates: rows that say what an earlier row says, id and all, found when all rows have been seen: exports overlap.

Comes in: finished rows with the digests that workers made (`turnout.training.logs.join.whole_digest`). Goes out: the
same rows by place, the first of each digest alone. Eight bytes of a digest stay in memory, and of rows that occur
several times about 100.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from turnout.training.logs.join import DIGEST_BYTES

DIGEST = pa.field("digest", pa.binary(DIGEST_BYTES))
"""The column of the digests; null where a row repeats none."""


class Duplicates:
    """What is known of the digests of all rows."""

    def __init__(self) -> None:
        self._numbers = list[NDArray[Any]]()

    def add(self, rows: pa.Table) -> None:
        """Learn from finished rows."""
        self._numbers.append(digest_numbers(rows.filter(pc.is_valid(rows[DIGEST.name]))))

    def left_out(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Yield rows, all by place, without those whose digest an earlier one has."""
        numbers, counts = np.unique(np.concatenate([*self._numbers, np.empty(0, np.uint64)]), return_counts=True)
        several = numbers[counts > 1]
        seen = set[bytes]()
        for table in tables:
            is_kept = np.ones(table.num_rows, dtype=np.bool_)
            for row in np.flatnonzero(np.isin(digest_numbers(table), several)) if several.size else ():
                digest = table[DIGEST.name][int(row)].as_py()
                is_kept[row] = digest not in seen
                seen.add(digest)
            yield table if is_kept.all() else table.filter(pa.array(is_kept))


def digest_numbers(table: pa.Table) -> NDArray[np.uint64]:
    """Return the first eight bytes of each row's digest as a number, shape (n,); 0 where it has none."""
    digests = pc.fill_null(table[DIGEST.name], bytes(DIGEST_BYTES)).to_pylist()
    return np.frombuffer(b"".join(digests), dtype="<u8")[:: DIGEST_BYTES // 8]
