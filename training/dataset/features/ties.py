"""Ties: which rows of files of features belong together.

Comes in: digests and signatures as `training.dataset.features.repeats` wrote them. Goes out: `Groups`. Within a file
they are the groups of its prompts: near-duplicates were found and checked when it was written. Between files they
rest on the signatures alone, whose share of equal minima estimates the Jaccard similarity (Broder 1997), at 0.8 with
a standard error of 0.037.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from turnout.training.dataset.near_duplicates import JACCARD, N_BANDS, N_PERMUTATIONS
from turnout.training.dataset.splits import Groups, tied


def group_digests(
    keys: Sequence[Sequence[bytes]],
    near: Sequence[bytes | None],
    signatures: Sequence[bytes | None],
    file: NDArray[np.int64],
    salt: str,
) -> Groups:
    """Return the groups of n rows.

    Args:
        keys: digests of each row's user text, group and session, the text's first.
        near: digest of the user text that the row is a near-duplicate of; None for none.
        signatures: MinHash signature of each row, 480 bytes; None for texts without words.
        file: (n,) number of the file that the row stands in.
        salt: under which the digests were made.
    """
    named = [tuple(key.hex() for key in row) for row in keys]
    groups = tied(named, (*_near_pairs(keys, near), *_across(signatures, file)))
    return Groups(groups.group, named, groups.n_near_duplicates, groups.split_sizes, salt)


def _near_pairs(keys: Sequence[Sequence[bytes]], near: Sequence[bytes | None]) -> Iterator[tuple[int, int]]:
    """Tie each row to the first one of the text it resembles; where that text is gone, to the first that resembled."""
    first = {row_keys[0]: row for row, row_keys in reversed(list(enumerate(keys)))}
    for row, digest in enumerate(near):
        if digest is not None:
            yield first.setdefault(digest, row), row


def _across(signatures: Sequence[bytes | None], file: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield pairs of rows of different files that share a band and most of their minima."""
    if np.unique(file).size < 2:
        return
    rows = np.array([row for row, one in enumerate(signatures) if one is not None], dtype=np.int64)
    minima = np.frombuffer(b"".join(one for one in signatures if one is not None), "<u4").reshape(-1, N_PERMUTATIONS)
    for band in np.split(minima, N_BANDS, axis=1):
        seen = dict[bytes, list[int]]()
        for place, key in enumerate(map(bytes, np.ascontiguousarray(band))):
            bucket = seen.setdefault(key, [])
            for other in bucket:
                if np.mean(minima[place] == minima[other]) >= JACCARD:
                    yield int(rows[other]), int(rows[place])
            if all(file[rows[place]] != file[rows[other]] for other in bucket):
                bucket.append(place)  # the first of each file: those of one file are tied among themselves
