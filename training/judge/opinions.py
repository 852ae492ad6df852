"""Opinions: what the judges say of one row, and what is remembered of all rows: a few bytes each.

Comes in: verdicts, row by row. Goes out: `Votes`, from which labels, confidence and figures are made.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from turnout.training.calls.call import CallFailure
from turnout.training.judge.questions import Question
from turnout.training.judge.verdicts import JudgeVerdict

NO_MATCH = -1
"""In place of a match: no judge gave one, or none is known."""


@dataclass(frozen=True, slots=True)
class Opinions:
    """What the judges say of one row, in the order of the judges.

    Attributes:
        question: the row.
        verdicts: a verdict, or why there is none.
    """

    question: Question
    verdicts: tuple[JudgeVerdict | CallFailure, ...]

    @property
    def match(self) -> int | None:
        """The majority's label, the first judge's where votes are even; None when no judge gave any."""
        votes = [verdict.match for verdict in self.verdicts if isinstance(verdict, JudgeVerdict)]
        if not votes:
            return None
        return votes[0] if 2 * sum(votes) == len(votes) else int(2 * sum(votes) > len(votes))

    @property
    def is_tie(self) -> bool:
        """Whether the label rests on a tie: no judge preferred the weak answer, nor most of them the strong one."""
        winners = [verdict.winner for verdict in self.verdicts if isinstance(verdict, JudgeVerdict)]
        return self.match == 1 and "weak" not in winners


@dataclass
class JudgeCounts:
    """What one judge said of all rows: verdicts by winner, abstentions by why, flips, wins by the place shown in."""

    winners: Counter[str] = field(default_factory=Counter)
    abstained: Counter[str] = field(default_factory=Counter)
    flips: int = 0
    first_wins: int = 0
    second_wins: int = 0

    def add(self, verdict: JudgeVerdict | CallFailure) -> None:
        """Count one verdict."""
        if isinstance(verdict, CallFailure):
            self.abstained[str(verdict)] += 1
            return
        self.winners[str(verdict.winner)] += 1
        self.flips += verdict.is_flip
        self.first_wins += verdict.first_wins
        self.second_wins += verdict.second_wins


class Votes:
    """What all judges said of all rows, in their order: three bytes a row, and one for each judge."""

    def __init__(self, models: tuple[str, ...]) -> None:
        self.counts = {model: JudgeCounts() for model in models}
        self._by_judge = {model: array("b") for model in models}
        self._joint, self._is_tie, self._known = array("b"), array("b"), array("b")

    def add(self, row: Opinions) -> None:
        """Count the next row."""
        for (model, counts), verdict in zip(self.counts.items(), row.verdicts, strict=True):
            counts.add(verdict)
            self._by_judge[model].append(verdict.match if isinstance(verdict, JudgeVerdict) else NO_MATCH)
        self._joint.append(NO_MATCH if row.match is None else row.match)
        self._is_tie.append(row.is_tie)
        self._known.append(NO_MATCH if row.question.known is None else row.question.known)

    def __len__(self) -> int:
        return len(self._joint)

    @property
    def joint(self) -> NDArray[np.int8]:
        """(n,) the judges' label: 0, 1 or `NO_MATCH`."""
        return np.array(self._joint, dtype=np.int8)

    @property
    def is_tie(self) -> NDArray[np.bool_]:
        """(n,) whether that rests on a tie."""
        return np.array(self._is_tie, dtype=np.bool_)

    @property
    def known(self) -> NDArray[np.int8]:
        """(n,) the label by another labeller: 0, 1 or `NO_MATCH`."""
        return np.array(self._known, dtype=np.int8)

    @property
    def by_judge(self) -> dict[str, NDArray[np.float64]]:
        """(n,) of 0, 1 and NaN (no label) for each judge."""
        found = {model: np.array(votes, dtype=np.float64) for model, votes in self._by_judge.items()}
        return {model: np.where(votes == NO_MATCH, np.nan, votes) for model, votes in found.items()}
