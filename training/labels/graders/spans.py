"""Spans: the reference lists marked spans as `[text, class]` pairs; an answer is graded by their F1.

An answer lists its spans one a line as `text (CLASS)`, with or without a bullet, or as the same JSON.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from training.labels.graders import Grade, Grader, Question
from training.labels.texts import embedded_json, json_value

_LINE = re.compile(r"^[ \t]*(?:[-*\u2022][ \t]+|\d+[.)][ \t]+)?(\S.*?)[ \t]*\(([^()\n]+)\)[ \t]*[.,;]?[ \t]*$", re.MULTILINE)
_PAIR = 2


def _read(question: Question) -> Grade | None:
    gold = _pairs(json_value(question.reference) if question.reference.lstrip()[:1] == "[" else None)
    return (lambda answer: span_f1(gold, _said(answer))) if gold else None


def span_f1(gold: Counter[tuple[str, str]], said: Counter[tuple[str, str]]) -> float:
    """Return 2 x shared / (gold + said), 0 to 1, each span counted as often as it stands."""
    return 2 * (gold & said).total() / (gold.total() + said.total())


def _said(answer: str) -> Counter[tuple[str, str]]:
    return _pairs(embedded_json(answer)) or Counter(_LINE.findall(answer))


def _pairs(value: Any) -> Counter[tuple[str, str]]:
    pairs = value if isinstance(value, list) else []
    if not all(isinstance(pair, list) and len(pair) == _PAIR and all(isinstance(x, str) for x in pair) for pair in pairs):
        return Counter()
    return Counter((text, kind) for text, kind in pairs)


SPANS = Grader("spans", 0.99, _read)
