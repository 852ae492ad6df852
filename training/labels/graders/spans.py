"""Spans: the reference lists marked spans as `[text, class]` pairs; an answer is graded by their F1.

An answer lists its spans one a line as `text (CLASS)`, with or without a bullet, or as the same JSON.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from turnout.training.labels.graders import Grade, Grader, Question
from turnout.training.labels.texts import embedded_json, json_value, normal_form

_LINE = re.compile(
    r"^[ \t]*(?:[-*\u2022][ \t]+|\d+[.)][ \t]+)?(\S.*?)[ \t]*\(([^()\n]+)\)[ \t]*[.,;]?[ \t]*$", re.MULTILINE
)
_PAIR = 2
NOTHING = frozenset({"no entities", "no entity", "none", "nothing", "n/a"})
"""What stands for no span, as a whole answer or as the class of something that is none."""


def _read(question: Question) -> Grade | None:
    value = json_value(question.reference) if question.reference.lstrip()[:1] == "[" else None
    if value == []:
        return _grade_nothing
    gold = _pairs(value)
    return (lambda answer: span_f1(gold, _said(answer))) if gold else None


def _grade_nothing(answer: str) -> float | None:
    """Grade against no spans at all: right when the answer says so, wrong when it lists any."""
    if _said(answer):
        return 0.0
    is_none = normal_form(answer).removeprefix("answer:").strip() in NOTHING or embedded_json(answer) == []
    return 1.0 if is_none else None


def span_f1(gold: Counter[tuple[str, str]], said: Counter[tuple[str, str]]) -> float:
    """Return 2 x shared / (gold + said), 0 to 1, each span counted as often as it stands."""
    return 2 * (gold & said).total() / (gold.total() + said.total())


def _said(answer: str) -> Counter[tuple[str, str]]:
    listed = _LINE.findall(answer) if "(" in answer else []
    return _pairs(embedded_json(answer)) or Counter(pair for pair in listed if normal_form(pair[1]) not in NOTHING)


def _pairs(value: Any) -> Counter[tuple[str, str]]:
    pairs = value if isinstance(value, list) else []
    if not all(
        isinstance(pair, list) and len(pair) == _PAIR and all(isinstance(x, str) for x in pair) for pair in pairs
    ):
        return Counter()
    return Counter((text, kind) for text, kind in pairs)


SPANS = Grader("spans", 0.9883, _read)  # 168 of 169 labels
