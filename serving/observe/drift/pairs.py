"""Pairs: requests that both models answered and somebody judged, as counts by weight and depth of the ladder.

Comes in: a `Pledge` for each decision of which both answers were wanted, and whether the weak one matched. Goes out:
`Tally`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from turnout.serving.decision.tightening import LADDER
from turnout.serving.observe.drift.betting import WEIGHTS
from turnout.serving.observe.drift.keeping import SeenPairs
from turnout.serving.spool.tallies import TallyRow

STEPS = len(LADDER)


@dataclass(frozen=True, slots=True)
class Pledge:
    """What a decision promised, kept until its outcome comes.

    Attributes:
        bundle, policy, task: whose promise it is part of.
        depth: steps of the ladder, from the first, at which the caller gets the weak answer.
        is_weak: whether the caller got it at the thresholds in force, exploration left out.
        propensity: with what probability both answers were wanted, in (0, 1].
        least: smallest such probability that the rules in force give.
        session: hash of its session; 0 for none.
        waits_for: of a tried request, what the second look has to reach at each step; empty once it was checked, and
            where it was not tried. What was never checked tells nothing.
        step: of a ladder of models, that in force; -1 for a pair. Its rows count by it in place of the depth: at other
            steps another rung may answer, of which this pair of answers tells nothing.
    """

    bundle: str
    policy: str
    task: str
    depth: int
    is_weak: bool
    propensity: float
    least: float
    session: int = 0
    waits_for: tuple[float, ...] = ()
    step: int = -1

    def checked(self, p_match: float | None, *, is_accepted: bool) -> Pledge:
        """Return what it says once the weak answer was checked, given the second look's `p_match`; None vouches not."""
        n_accepted = 0 if p_match is None else sum(p_match >= one for one in self.waits_for)
        return dataclasses.replace(self, depth=max(self.depth, n_accepted), is_weak=is_accepted, waits_for=())


@dataclass(slots=True)
class Tally:
    """Counts of pairs.

    Attributes:
        counts: (15, STEPS, 2) by place of the weight, by depth at which it was worse (0 for not at all; of a ladder of
            models by the step in force, worse or not), and by whether it was worse at the threshold in force.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((WEIGHTS.size, STEPS, 2), np.int64))

    @classmethod
    def of(cls, rows: Iterable[TallyRow]) -> Tally:
        """Add rows up; those that no version of ours writes are left out."""
        tally = cls()
        for row in rows:
            if 0 <= row.place < WEIGHTS.size and 0 <= row.depth < STEPS and row.worse in (0, 1) and row.n > 0:
                tally.counts[row.place, row.depth, row.worse] += row.n
        return tally

    @property
    def n(self) -> int:
        """How many pairs."""
        return int(self.counts.sum())

    @property
    def served(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(15,) pairs not made worse at the thresholds in force, and (15,) made worse, by weight."""
        return self.counts[:, :, 0].sum(axis=1), self.counts[:, :, 1].sum(axis=1)

    def seen_served(self) -> SeenPairs:
        """Return what was made worse at the thresholds in force."""
        return self._seen(self.counts[:, :, 1].sum(axis=1)[:, None])

    def seen_by_step(self) -> SeenPairs:
        """Return what each step of the ladder would have made worse; nothing at the last."""
        by_depth = self.counts.sum(axis=2)
        beyond = by_depth[:, ::-1].cumsum(axis=1)[:, ::-1]  # at this depth or deeper
        return self._seen(np.hstack([beyond[:, 1:], np.zeros((WEIGHTS.size, 1), np.int64)]))

    def seen_in_force(self, expected: Sequence[float]) -> SeenPairs:
        """Return what each step would have made worse, of a ladder of models whose rows count by the step in force.

        What was seen over what training measured of the steps that were in force, times what it measured of each: a
        drift is taken to be as bad at other steps. Nothing where all went to the top, which tells nothing.

        Args:
            expected: by step, the share that training measured; above 0 wherever anything goes below the top.
        """
        measured = np.zeros(STEPS)
        measured[: len(expected)] = expected
        told = self.counts[:, measured > 0]
        n = int(told.sum())
        if not n:
            return SeenPairs(0, [0.0] * len(expected), [0.0] * len(expected))
        by_step = WEIGHTS @ told.sum(axis=2)
        mean = float(by_step.sum()) / n
        worse = told[:, :, 1].sum(axis=1)
        of_training = float(by_step @ measured[measured > 0]) / mean
        ratios = [n * share / of_training for share in expected]
        seen, squares = float(WEIGHTS @ worse) / mean, float(WEIGHTS**2 @ worse) / mean**2
        return SeenPairs(n, [seen * ratio for ratio in ratios], [squares * ratio**2 for ratio in ratios])

    def _seen(self, worse: NDArray[np.int64]) -> SeenPairs:
        n = self.n
        mean = float(WEIGHTS @ self.counts.sum(axis=(1, 2))) / n if n else 1.0
        return SeenPairs(n, (WEIGHTS @ worse / mean).tolist(), (WEIGHTS**2 @ worse / mean**2).tolist())
