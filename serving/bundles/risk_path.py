"""Risk path: what each threshold of a router made worse, so that any `max_worse` level can be solved without the rows.

Comes in: the path in the manifest and a level. Goes out: the threshold of that level, by the test that training uses:
from the highest threshold down, each accepted while the exact binomial bound stays at or below the level.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np

LEVEL_STEP = 0.0005
"""Levels are multiples of this: a policy's name is a label of metrics, and there are 1,000 of them so."""
LARGEST_LEVEL = 0.5


class RiskPath(msgspec.Struct, frozen=True):
    """Counts over independent rows, one a group, that no fit behind their answer has seen.

    Attributes:
        thresholds: falling, in (0, 1).
        worse: how many of the `n` rows go weak at each and are worse off for it.
        share_weak: share of all rows that goes weak at each.
        share_worse: share of all rows that goes weak at each and is worse off.
        n: rows counted.
        solved_delta: probability of an error that each level is solved at.
        delta: probability that is promised, which an allowance keeps above `solved_delta`.
        t_rungs: of a ladder, what the rungs between need at each threshold, as `Policy.t_rungs`; `worse` and
            `share_worse` count every answer below the top then. Unset for a pair.
    """

    thresholds: tuple[float, ...]
    worse: tuple[int, ...]
    share_weak: tuple[float, ...]
    share_worse: tuple[float, ...]
    n: int
    solved_delta: float
    delta: float
    t_rungs: tuple[tuple[float, ...], ...] | msgspec.UnsetType = msgspec.UNSET

    def place(self, level: float) -> int | None:
        """Return the place of the lowest threshold that keeps to a level; None where none does."""
        return _place(self, level)


def level_of(name: str) -> float | None:
    """Return the level that `max_worse=LEVEL` names; None for any other name and for a level that is not solved."""
    kind, equals, number = name.partition("=")
    if kind != "max_worse" or not equals or len(number) > 8:
        return None
    try:
        level = float(number)
    except ValueError:
        return None
    if not LEVEL_STEP <= level <= LARGEST_LEVEL:  # NaN is neither
        return None
    return level if abs(level / LEVEL_STEP - round(level / LEVEL_STEP)) < 1e-6 else None


@lru_cache(maxsize=64)
def _place(path: RiskPath, level: float) -> int | None:
    most = most_events(path.n, level, path.solved_delta)
    accepted = None
    for place, worse in enumerate(path.worse):
        if worse > most:
            break
        accepted = place
    return accepted


def most_events(n: int, level: float, delta: float) -> int:
    """Return how many events of `n` still show the share to be at most `level`, at 1 - delta; -1 where none do.

    The exact bound (Clopper and Pearson 1934) of k events is at most the level exactly where so few or fewer have
    probability delta at most under it.
    """
    if n == 0:
        return -1
    k = np.arange(n + 1)
    log_factorial = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, n + 1)))))
    log_p = log_factorial[n] - log_factorial - log_factorial[::-1] + k * np.log(level) + (n - k) * np.log1p(-level)
    return int(np.count_nonzero(np.cumsum(np.exp(log_p)) <= delta)) - 1
