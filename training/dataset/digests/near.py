"""Near: which rows say nearly the same, from hashed n-grams alone.

Comes in: the counts of n prompts. Goes out: pairs of rows. With the text, near-duplicates are those whose 3-word
shingles overlap by 0.8 (Jaccard), shingles of templates left out (`training.dataset.near_duplicates`); here the sets
are the buckets of word-piece uni- and bigrams, without those that more than 0.5 % of the rows hold, and the bound is
0.5.

Measured on the 20,764 reference rows, all pairs compared exactly: the 327 that the text ties have at least 0.529 here
and are all tied, with 4,621 of the other 215 million; the largest group has 84 rows, a fifth of its source. Too many
ties cost groups, too few would leak the test. With the text's own share of 1 % a source of 139 rows was one group. The
search is complete: hashing to bands (MinHash) would miss some at 0.5.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, triu

from turnout.training.dataset.templates import MIN_TEMPLATE_ROWS

JACCARD = 0.5
TEMPLATE_SHARE = 0.005
BLOCK = 4096
"""Rows compared with all at once: bounds the memory, changes nothing else."""


def near_rows(
    counts: csr_matrix, *, jaccard: float = JACCARD, template_share: float = TEMPLATE_SHARE
) -> Iterator[tuple[int, int]]:
    """Yield pairs (earlier, later) of rows whose buckets overlap.

    Args:
        counts: (n, n_buckets), of any values; which are above 0 matters alone.
        jaccard: least overlap, in (0, 1].
        template_share: of the rows; buckets that more of them hold are left out.
    """
    buckets = _without_templates(counts, template_share)
    sizes = np.diff(buckets.indptr)
    rarest = _rarest(buckets, jaccard)
    for start in range(0, buckets.shape[0], BLOCK):
        stop = min(start + BLOCK, buckets.shape[0])
        shared = triu(rarest[start:stop] @ rarest.T, k=start + 1).tocoo()
        earlier, later = shared.row + start, shared.col
        for first in range(0, earlier.size, BLOCK):
            some = slice(first, first + BLOCK)
            pairs = _overlaps(buckets, sizes, earlier[some], later[some]) >= jaccard
            yield from zip(earlier[some][pairs].tolist(), later[some][pairs].tolist(), strict=True)


def _without_templates(counts: csr_matrix, template_share: float) -> csr_matrix:
    """Return which buckets each row holds, as 1.0, without those that too many rows hold."""
    limit = max(MIN_TEMPLATE_ROWS, template_share * counts.shape[0])
    n_rows = np.bincount(counts.indices, minlength=counts.shape[1])
    is_kept = (n_rows[counts.indices] <= limit).astype(np.float32)
    # A copy: eliminate_zeros shortens the index arrays, which it would else share with the counts of the fit.
    kept = csr_matrix((is_kept, counts.indices, counts.indptr), counts.shape, copy=True)
    kept.eliminate_zeros()
    return kept


def _rarest(buckets: csr_matrix, jaccard: float) -> csr_matrix:
    """Return the rarest buckets of each row, as many as leave no pair out: one of them at least is shared.

    Of m buckets, m - ceil(m * jaccard) + 1 (Chaudhuri, Ganti and Kaushik 2006, prefix filtering).
    """
    n_rows = np.bincount(buckets.indices, minlength=buckets.shape[1])
    sizes = np.diff(buckets.indptr)
    row = np.repeat(np.arange(sizes.size), sizes)
    order = np.lexsort((buckets.indices, n_rows[buckets.indices], row))
    rank = np.arange(order.size) - np.repeat(buckets.indptr[:-1], sizes)
    kept = rank <= (sizes - np.ceil(jaccard * sizes))[row]
    column = buckets.indices[order][kept]
    return csr_matrix((np.ones(column.size, np.float32), (row[kept], column)), buckets.shape)


def _overlaps(
    buckets: csr_matrix, sizes: NDArray[np.int64], earlier: NDArray[np.int64], later: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the Jaccard similarity of pairs of rows, none of which is empty."""
    shared = np.asarray(buckets[earlier].multiply(buckets[later]).sum(axis=1), dtype=np.float64).ravel()
    return np.asarray(shared / (sizes[earlier] + sizes[later] - shared))
