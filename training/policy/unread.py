"""Unread: rows whose log lacks the weak model's answer, among those that test policies over three actions.

Comes in: what the first look says of rows, and which of them have an answer. Goes out: the rows to test on, and which
of those count as accepted wherever they would be tried. Whether an answer that nobody has would have been accepted is
not known: to count it as escalated is to claim that it does no harm. Where answers lack by chance, rows with one stand
for those without; where they lack by design, as in logs that hold the answers of tried requests alone, nothing does.

Counted as escalated, answers that lack by chance in 10, 20 and 30 % of rows broke `max_worse=0.05` in 20, 44 and 59 of
60 draws, and a log of the middle of the first look in 38 to 60 (6 are allowed). So: docs/decisions/training/0016.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnout.training.arrays import Bools, Floats, Ints

STRETCHES, LEAST_ROWS = 20, 100
"""Of the first look: so many at most, and of so many rows, that chance moves their shares by 0.04 and no more."""
LEAST_KNOWN = 0.8
"""Of the largest share of rows with an answer, a stretch must have this, so that its answers may stand for those that
lack: fewer are more than chance. All rows are thinned to the least share that is used, which costs a fifth at most."""


@dataclass(frozen=True)
class Testable:
    """Rows that may test a policy.

    Attributes:
        rows: (m,) numbers, a fair draw of all.
        is_unread: (m,) whether a row has no answer, and others do not stand for it.
    """

    rows: Ints
    is_unread: Bools


def testable(first: Floats, is_unlike: Bools, has_answer: Bools, rows: Ints, seed: int) -> Testable:
    """Return the rows to test on; all of them, and none unread, where all have an answer.

    Args:
        first: (n,) p_match of the first look.
        is_unlike: (n,) rows unlike the training data, a stretch of their own.
        has_answer: (n,) whether the log holds the weak model's answer.
        rows: (k,) numbers among the n, which may repeat.
        seed: of the draw.
    """
    if has_answer[rows].all():
        return Testable(rows, np.zeros(rows.size, dtype=bool))
    stretch = _stretches(first[rows], is_unlike[rows])
    known = has_answer[rows]
    n_rows = np.bincount(stretch)
    share = np.bincount(stretch, weights=known) / np.maximum(n_rows, 1)
    is_known = (share >= LEAST_KNOWN * share.max()) & (share > 0.0)
    least = float(share[is_known].min()) if is_known.any() else 1.0
    stood_for = is_known[stretch]
    chance = np.where(stood_for, np.where(known, least / np.maximum(share[stretch], least), 0.0), least)
    kept = np.random.default_rng(seed).random(rows.size) < chance
    return Testable(rows[kept], (~known & ~stood_for)[kept])


def _stretches(first: Floats, is_unlike: Bools) -> Ints:
    """(k,) which stretch of the first look a row is in: of equal numbers of rows, those unlike the data at the end."""
    n_stretches = max(1, min(STRETCHES, first.size // LEAST_ROWS))
    edges = np.unique(np.quantile(first, np.linspace(0.0, 1.0, n_stretches + 1)[1:-1]))
    return np.where(is_unlike, edges.size + 1, np.searchsorted(edges, first, side="right")).astype(np.int64)
