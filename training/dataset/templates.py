"""Templates: the shingles that so many rows share that they say nothing of who repeats whom.

Comes in: the shingles of all rows. Goes out: the hashes of those found in more than 1 % of the rows. Left in, one
source of the reference rows collapses into a single group of 1,546 different questions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from turnout.training.dataset.shingles import Hashes, ShingleFile

TEMPLATE_SHARE = 0.01
MIN_TEMPLATE_ROWS = 10
"""In a small log 1 % is a handful: text repeated so seldom is a near-duplicate, not a template."""
COUNTED = 1 << 16
"""Shingles counted at the same time, at least: 1 MiB, enough for a log of some thousand rows to need one pass."""


def find_templates(shingles: ShingleFile, counted: int = COUNTED) -> Hashes:
    """Return the hashes of templates, sorted.

    Counts as many shingles as could at most be templates (Misra and Gries 1982, blocks merged as in Agarwal et al.
    2012, "Mergeable Summaries"): 100 times the shingles of the average row, however many rows there are. What falls
    below loses as much from every count, never as much as makes a template; those left are then counted exactly.

    Args:
        shingles: of all rows, each shingle once a row.
        counted: how many are counted at the same time, at least.
    """
    limit = max(MIN_TEMPLATE_ROWS, TEMPLATE_SHARE * len(shingles))
    most = max(counted, int(shingles.n_hashes / limit) + 1)
    hashes, counts, lost = np.empty(0, np.uint64), np.empty(0, np.int64), 0
    for block, _ in shingles.blocks():
        hashes, counts = _sum(hashes, counts, *np.unique(block, return_counts=True))
        if hashes.size > most:
            least = int(np.partition(counts, -most - 1)[-most - 1])
            lost += least
            hashes, counts = hashes[counts > least], counts[counts > least] - least
    hashes, counts = hashes[counts > limit - lost], counts[counts > limit - lost]
    return hashes[(_count(shingles, hashes) if lost else counts) > limit]


def without_templates(hashes: Hashes, templates: Hashes) -> NDArray[np.bool_]:
    """Return which of the hashes are no templates."""
    if not templates.size:
        return np.ones(hashes.size, dtype=np.bool_)
    places = np.searchsorted(templates, hashes)
    is_kept: NDArray[np.bool_] = templates[np.minimum(places, templates.size - 1)] != hashes
    return is_kept


def _sum(
    hashes: Hashes, counts: NDArray[np.int64], more: Hashes, more_counts: NDArray[np.int64]
) -> tuple[Hashes, NDArray[np.int64]]:
    found, place = np.unique(np.concatenate([hashes, more]), return_inverse=True)
    total = np.zeros(found.size, dtype=np.int64)
    total[place[: hashes.size]] = counts
    total[place[hashes.size :]] += more_counts
    return found, total


def _count(shingles: ShingleFile, hashes: Hashes) -> NDArray[np.int64]:
    counts = np.zeros(hashes.size, dtype=np.int64)
    for block, _ in shingles.blocks():
        known = block[~without_templates(block, hashes)]
        counts += np.bincount(np.searchsorted(hashes, known), minlength=hashes.size)
    return counts
