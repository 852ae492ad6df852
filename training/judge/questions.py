"""Questions: the rows that judges are asked about, and which of the known ones are.

Comes in: records with what the other labellers made of them. Goes out: `Question`, all that a call needs of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.training.logs.records import Record


@dataclass(frozen=True, slots=True)
class Question:
    """A row with a prompt and both answers.

    Attributes:
        id, file, line, index: which row.
        prompt, strong, weak: the texts.
        known: its label by another labeller, for rows judged only to measure the judges.
    """

    id: str
    file: str
    line: int
    index: int
    prompt: str
    strong: str
    weak: str
    known: int | None = None


def can_be_judged(record: Record) -> bool:
    """Whether a row holds what a judge compares: all as text, since images would not reach it."""
    has_both = record.strong and record.strong.content and record.weak and record.weak.content
    return bool(has_both) and not record.prompt.is_empty and not record.prompt.images


def draw_known(n_known: int, n_drawn: int, seed: int) -> NDArray[np.int64]:
    """Draw rows whose label is known: their numbers among the known ones in the order of the logs, rising."""
    return np.sort(np.random.default_rng(seed).permutation(n_known)[:n_drawn])
