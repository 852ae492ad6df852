"""Confidence: how sure a label is, by who gave it and by the shape of the answers it was read from.

Comes in: the grader's name, its overall figure, and both answers. Goes out: the share of such labels that were right on
the held-out half of the shared rows, as (hits + 1) / (rows + 2); the overall figure where fewer than `MIN_ROWS` rows
have the shape. The less plain of the two answers counts.
"""

from __future__ import annotations

from turnout.training.labels.stretches import LabelShape, stretches

MIN_ROWS = 50
"""With fewer rows the share says little: one miss more or less would move it by two points."""

_ORDER = (
    LabelShape.BARE,
    LabelShape.JSON,
    LabelShape.MARKED,
    LabelShape.SENTENCE,
    LabelShape.EXPLAINED,
    LabelShape.RUNNING,
)

MAX_BARE_CHARS = 40

MEASURED: dict[tuple[str, LabelShape], float] = {
    ("choice", LabelShape.BARE): 0.9998,  # 4,025 of 4,025
    ("choice", LabelShape.MARKED): 0.9999,  # 9,792 of 9,792
    ("choice", LabelShape.RUNNING): 0.9744,  # 75 of 76
    ("exact", LabelShape.BARE): 0.9986,  # 694 of 694
    ("json", LabelShape.JSON): 0.9254,  # 123 of 132
    ("mentions", LabelShape.BARE): 0.9972,  # 353 of 353
    ("mentions", LabelShape.RUNNING): 0.991,  # 109 of 109
    ("mentions", LabelShape.SENTENCE): 0.9995,  # 2,034 of 2,034
    ("normalised", LabelShape.BARE): 0.9969,  # 322 of 322
    ("number", LabelShape.BARE): 0.9998,  # 4,484 of 4,484
    ("number", LabelShape.JSON): 0.999,  # 1,016 of 1,016
    ("number", LabelShape.MARKED): 0.9916,  # 234 of 235
    ("number", LabelShape.RUNNING): 0.9625,  # 384 of 398
    ("number", LabelShape.SENTENCE): 0.9926,  # 133 of 133
    ("spans", LabelShape.EXPLAINED): 0.9756,  # 79 of 80
}
"""By grader and shape. Of the misses of numbers in running text most are the source's own: it reads no cents."""


def shape_of(answer: str) -> LabelShape:
    """Return the shape of an answer: the least plain among the stretches that claim to be it."""
    if len(answer) <= MAX_BARE_CHARS and answer.isascii() and answer.isalnum():
        return LabelShape.BARE  # one word: spares it the search
    shapes = [one.shape for one in stretches(answer) if one.shape is not LabelShape.OPENING]
    return max(shapes, key=_ORDER.index) if shapes else LabelShape.RUNNING


def confidence_of(grader: str, overall: float, *answers: str) -> float:
    """Return how often labels of this grader are right on answers of this shape, 0 to 1."""
    shape = max(map(shape_of, answers), key=_ORDER.index)
    return MEASURED.get((grader, shape), overall)
