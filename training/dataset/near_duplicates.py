"""Near-duplicates: rows whose texts say nearly the same, found by MinHash and then checked exactly.

Comes in: texts, or their shingles. Goes out: for each row an earlier one that it repeats, templates left out.

What stays in memory of a row, whatever its text: a hash of 4 bytes for each of 20 bands, and 16 bytes for its place in
the file of shingles, their number and the row it repeats. That is 96 bytes; with what sorting a band takes, a further
row was measured at 127 to 150 (`python -m tests.bench.near_duplicates LOG` fails above 200), sets of strings at 17,000.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from turnout.training.dataset.shingles import Hashes, ShingleFile, shingle_file, shingle_hashes
from turnout.training.dataset.templates import find_templates, without_templates

JACCARD = 0.8
N_PERMUTATIONS, N_BANDS = 120, 20
"""Bands of six: a pair at Jaccard 0.8 is found with probability 0.998, one at 0.5 with 0.27."""
SEED = 1
ROWS_AT_HAND = 256
"""Rows whose shingles are kept for the next comparison: rows that repeat each other stand in several bands together."""
NONE = -1
_MULTIPLIERS = np.random.default_rng(SEED).integers(0, 2**64, N_PERMUTATIONS // N_BANDS, dtype=np.uint64) | np.uint64(1)


@dataclass(frozen=True)
class Signatures:
    """MinHash signatures of consecutive rows.

    Attributes:
        minima: (n, `N_PERMUTATIONS`) uint32; of a row without shingles it says nothing.
        n_shingles: (n,) int32, of each row without templates.
    """

    minima: NDArray[np.uint32]
    n_shingles: NDArray[np.int32]

    def as_bytes(self) -> list[bytes | None]:
        """Return each row's minima, uint32 little-endian; None for a row without shingles."""
        rows = zip(self.minima.astype("<u4"), self.n_shingles, strict=True)
        return [minima.tobytes() if n else None for minima, n in rows]


def near_duplicates(texts: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yield pairs (earlier, later) of texts whose shingles, templates removed, overlap by at least 0.8.

    A text that resembles several is paired with one: the others of its group are tied to that.
    """
    with shingle_file() as shingles:
        shingles.add(shingle_hashes(texts))
        earlier = repeated_rows(shingles, find_templates(shingles))
    rows = np.flatnonzero(earlier != NONE)
    yield from zip(earlier[rows].tolist(), rows.tolist(), strict=True)


def signatures(shingles: ShingleFile, templates: Hashes) -> Iterator[Signatures]:
    """Yield the signatures of all rows, some at a time."""
    return (signatures_of(hashes, ends, templates) for hashes, ends in shingles.blocks())


def signatures_of(hashes: Hashes, ends: NDArray[np.int64], templates: Hashes) -> Signatures:
    """Return the signatures of n rows, whose shingles stand after one another; `ends` are (n,), where each row ends."""
    is_kept = without_templates(hashes, templates)
    kept_ends = np.concatenate([[0], np.cumsum(is_kept)])[np.concatenate([[0], ends])].astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes[is_kept], kept_ends, N_PERMUTATIONS, SEED)
    minima = np.array(matrix.to_rows(), dtype=np.uint32).reshape(-1, N_PERMUTATIONS)
    return Signatures(minima, np.diff(kept_ends).astype(np.int32))


def repeated_rows(shingles: ShingleFile, templates: Hashes) -> NDArray[np.int32]:
    """Return for each row an earlier one that it repeats, or `NONE`: (n,) int32.

    Where it repeats several: the first in the first band that it shares with any of them.
    """
    bands = np.empty((N_BANDS, len(shingles)), dtype=np.uint32)
    n_shingles = np.empty(len(shingles), dtype=np.int32)
    first = 0
    for some in signatures(shingles, templates):
        last = first + some.n_shingles.size
        bands[:, first:last], n_shingles[first:last] = _band_hashes(some.minima), some.n_shingles
        first = last
    overlap = _Overlap(shingles, templates, n_shingles)
    earlier = np.full(len(shingles), NONE, dtype=np.int32)
    for band in bands:
        for rows in _rows_that_share(band, n_shingles > 0):
            for place, row in enumerate(rows.tolist()):
                if place and earlier[row] == NONE:
                    earlier[row] = overlap.first_near(row, rows[:place])
    return earlier


def _band_hashes(minima: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return (`N_BANDS`, n) multilinear hashes (Lemire and Kaser 2014) of the minima of each band.

    32 bits: among a million rows chance brings some hundred pairs a band together, which the check parts again.
    """
    parts = minima.reshape(len(minima), N_BANDS, -1).astype(np.uint64)
    hashes: NDArray[np.uint64] = (parts * _MULTIPLIERS).sum(axis=2, dtype=np.uint64) >> np.uint64(32)
    return hashes.astype(np.uint32).T


def _rows_that_share(band: NDArray[np.uint32], has_shingles: NDArray[np.bool_]) -> Iterator[NDArray[np.int32]]:
    """Yield the rows of each hash that several have, in rising order."""
    order = np.argsort(band, kind="stable").astype(np.int32)
    order = order[has_shingles[order]]
    hashes = band[order]
    is_same = hashes[1:] == hashes[:-1]
    changes = np.flatnonzero(np.diff(is_same.astype(np.int8), prepend=0, append=0))
    for start, end in changes.reshape(-1, 2):
        yield order[start : end + 1]


class _Overlap:
    """Compares the shingles of rows, those of the last comparisons at hand."""

    def __init__(self, shingles: ShingleFile, templates: Hashes, n_shingles: NDArray[np.int32]) -> None:
        self._n_shingles = n_shingles
        self._set = lru_cache(ROWS_AT_HAND)(lambda row: _kept(shingles.row(row), templates))

    def first_near(self, row: int, others: NDArray[np.int32]) -> int:
        """Return the first of the others that overlaps the row enough, or `NONE`."""
        n, n_others = self._n_shingles[row], self._n_shingles[others]
        # Sets of sizes further apart can't overlap so much.
        may_be_near = np.minimum(n, n_others) / np.maximum(n, n_others) >= JACCARD
        ours = self._set(row)
        for other in map(int, others[may_be_near]):
            shared = len(ours & self._set(other))
            if shared / (len(ours) + self._n_shingles[other] - shared) >= JACCARD:
                return other
        return NONE


def _kept(hashes: Hashes, templates: Hashes) -> frozenset[int]:
    return frozenset(hashes[without_templates(hashes, templates)].tolist())
