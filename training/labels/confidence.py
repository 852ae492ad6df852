"""Confidence: how sure a label is, by who gave it and by the shape of the answers it was read from.

Comes in: the grader's name, its overall figure, and both answers. Goes out: the share of such labels that were right on
the held-out half of the shared rows, as (hits + 1) / (rows + 2); the overall figure where fewer than `MIN_ROWS` rows
have the shape. The less plain of the two answers counts.
"""

from __future__ import annotations

from turnout.training.labels.stretches import Shape, stretches

MIN_ROWS = 50
"""With fewer rows the share says little: one miss more or less would move it by two points."""

_ORDER = (Shape.BARE, Shape.JSON, Shape.MARKED, Shape.SENTENCE, Shape.EXPLAINED, Shape.RUNNING)

MEASURED: dict[tuple[str, Shape], float] = {}


def shape_of(answer: str) -> Shape:
    """Return the shape of an answer: the least plain among the stretches that claim to be it."""
    shapes = [one.shape for one in stretches(answer) if one.shape is not Shape.OPENING]
    return max(shapes, key=_ORDER.index) if shapes else Shape.RUNNING


def confidence_of(grader: str, overall: float, *answers: str) -> float:
    """Return how often labels of this grader are right on answers of this shape, 0 to 1."""
    shape = max(map(shape_of, answers), key=_ORDER.index)
    return MEASURED.get((grader, shape), overall)
