"""Rows of the second look: the weak model's answers, and what the first look says of their prompts.

Comes in: `AnswerRows`. Goes out: `CheckRows`.
"""

from __future__ import annotations

from dataclasses import dataclass

from scipy.sparse import csr_matrix

from turnout.training.arrays import Floats, Ints
from turnout.training.dataset.answers import AnswerRows


@dataclass(frozen=True)
class CheckRows:
    """n rows with the weak model's answer.

    Attributes:
        first: (n,) calibrated log-odds of the first look's fast head, from a fit that has not seen the row.
        counts, structure, shape, signals: as in `AnswerRows`.
    """

    first: Floats
    counts: csr_matrix
    structure: Floats
    shape: Ints
    signals: Floats

    @classmethod
    def of(cls, answers: AnswerRows, first: Floats) -> CheckRows:
        """Return the rows of answers with (n,) calibrated log-odds of the first look's fast head."""
        return cls(first, answers.counts, answers.structure, answers.shape, answers.signals)

    def take(self, rows: Ints) -> CheckRows:
        """Return those of some rows."""
        return CheckRows(
            self.first[rows], self.counts[rows], self.structure[rows], self.shape[rows], self.signals[rows]
        )
