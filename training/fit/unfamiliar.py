"""Out of distribution: which prompts are unlike those that the router learned from.

Comes in: `FeatureTable`s and a scaler, which counted the n-grams. Goes out: `Familiarity`, which the export
puts into the graph: a prompt is out of distribution when too large a share of its distinct n-grams is rare in the
fit part. The score needs no encoder, so that the fast stage can give it too (docs/decisions/training/0008).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.fit.fit import Scaler, document_frequency, idf_of

RARE_BELOW = 3
"""Rows of the fit part; below 2, 5 or 12 whole sources held out are told apart worse, if by little."""

MAX_FLAGGED = 0.04
"""Share of the rows that set the limit that may lie beyond it. At most 5 % of unseen rows of the same traffic are to
be flagged, and another split of the same rows moves that by half a point and more."""


COUNTED_AT_ONCE = 50_000
"""Rows whose n-grams are held against those of their groups at the same time: some 300 MB."""


@dataclass(frozen=True)
class Familiarity:
    """The rule by which the graph calls a prompt out of distribution; every number in it is float32.

    Attributes:
        rare_idf: n-grams with at least this weight in `Scaler.idf` are rare; between those of 2 and of 3 fit rows.
        limit: largest share of rare n-grams, in [0, 1], of a prompt that is in distribution.
        share_beyond: share of the rows that set the limit beyond it.
    """

    rare_idf: np.float32
    limit: np.float32
    share_beyond: float = 0.0

    @classmethod
    def fitted(cls, rare_idf: np.float32, shares: NDArray[np.float32]) -> Familiarity:
        """Return the rule whose limit is that of the (n,) rare shares of rows that the n-grams were not counted on."""
        limit = fit_limit(shares)
        return cls(rare_idf, limit, float((shares > limit).mean()))

    def is_out_of_distribution(self, scaler: Scaler, table: FeatureTable) -> NDArray[np.bool_]:
        """Return (n,) whether a prompt is; never one without any n-gram."""
        return np.asarray(rare_share(scaler, self.rare_idf, table) > self.limit)


def fit_limit(shares: NDArray[np.float32]) -> np.float32:
    """Return the smallest of the (n,) rare shares that at most `MAX_FLAGGED` of them exceed."""
    return np.float32(np.quantile(shares, 1.0 - MAX_FLAGGED, method="higher"))


def rare_weight(n_rows: int) -> np.float32:
    """Return the weight from which an n-gram is rare, given how many rows the scaler was fitted on."""
    return np.float32(idf_of(np.array([RARE_BELOW - 1, RARE_BELOW]), n_rows).mean())


def share_without_own_group(
    table: FeatureTable, group: NDArray[np.int64], rows: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Return (m,) float32 rare share of rows as if their group had not been counted.

    Folds would count on fewer rows than the router learns from: with five, a limit that flags 4 % of them flagged
    1.8 % of the test part.

    Args:
        table: features of the n rows that are counted.
        group: (n,) which rows stay together.
        rows: (m,) numbers of the rows that are asked for, whole groups; all n when None.
    """
    rows_with = document_frequency(table.counts)
    if rows is None:
        rows = np.arange(group.size)
    place = np.unique(group[rows], return_inverse=True)[1]
    order = np.argsort(place, kind="stable")
    found = np.empty(rows.size, np.float32)
    for some in np.split(order, _block_ends(place[order])):
        found[some] = _rare_without_own(table.counts[rows[some]], place[some], rows_with)
    return found


def _block_ends(sorted_places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where to cut rows in order of their groups into blocks of some `COUNTED_AT_ONCE`, never a group."""
    begins = np.flatnonzero(np.diff(sorted_places, prepend=-1))
    wanted = np.arange(COUNTED_AT_ONCE, sorted_places.size, COUNTED_AT_ONCE)
    return np.unique(begins[np.minimum(np.searchsorted(begins, wanted), begins.size - 1)])


def _rare_without_own(
    counts: csr_matrix, place: NDArray[np.int64], rows_with: NDArray[np.int64]
) -> NDArray[np.float32]:
    present = csr_matrix((np.ones(counts.nnz, np.float32), counts.indices, counts.indptr), counts.shape)
    names, place = np.unique(place, return_inverse=True)
    members = csr_matrix((np.ones(place.size, np.float32), (place, np.arange(place.size))), (names.size, place.size))
    own = (members @ present)[place].multiply(present).tocsr()
    own.sort_indices()
    is_rare = csr_matrix((rows_with[own.indices] - own.data < RARE_BELOW, own.indices, own.indptr), own.shape)
    n_rare, n = np.asarray(is_rare.sum(axis=1)).ravel(), np.diff(own.indptr)
    return np.asarray(n_rare.astype(np.float32) / np.maximum(n, 1).astype(np.float32))


def rare_share(scaler: Scaler, rare_idf: np.float32, table: FeatureTable) -> NDArray[np.float32]:
    """Return (n,) float32 share of a prompt's distinct n-grams that are rare; 0 where it has none.

    Both counts are whole numbers below 2**24, so that this division gives the very bits that the graph's does.
    """
    counts = table.counts
    is_rare = (scaler.idf[counts.indices] >= rare_idf).astype(np.int64)
    running = np.concatenate(([0], np.cumsum(is_rare)))
    n_rare, n = running[counts.indptr[1:]] - running[counts.indptr[:-1]], np.diff(counts.indptr)
    return np.asarray(n_rare.astype(np.float32) / np.maximum(n, 1).astype(np.float32))
