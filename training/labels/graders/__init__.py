"""Graders: each reads one kind of gold answer and scores an answer against it.

Comes in: a `GraderQuestion` (the prompt's text and its reference). Goes out: for a reference of the grader's kind,
a `Grade`: a function from an answer's text to its score. `turnout.training.labels.reference` asks them in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Grade", "Grader", "GraderQuestion"]

Grade = Callable[[str], float | None]
"""From an answer to its score, 0 to 1; None when the grader can't read the answer."""


@dataclass(frozen=True, slots=True)
class GraderQuestion:
    """What a grader may know: the prompt's text, and the gold answer."""

    prompt: str
    reference: str


@dataclass(frozen=True, slots=True)
class Grader:
    """One way to compare an answer with a gold answer.

    Attributes:
        name: what rows labelled by it carry, as `reference:name`.
        confidence: how often its labels are right, as (hits + 1) / (rows + 2). Measured on the held-out half of the
            shared rows by `python -m tests.bench.labels` (docs/labels.md); a module says where not.
        read: returns how answers are graded, or None for a reference that is not of this kind.
    """

    name: str
    confidence: float
    read: Callable[[GraderQuestion], Grade | None]
