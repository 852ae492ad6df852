"""Spans: the reference lists marked spans as `[text, class]` pairs; an answer is graded by their F1.

An answer lists its spans one a line as `text (CLASS)`, with or without a bullet, or as the same JSON.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from turnout.training.labels.graders import Grade, Grader, GraderQuestion
from turnout.training.labels.texts import MAX_CHARS, embedded_json, json_value, normal_form

_LINE = re.compile(r"^[ \t]*(?:[-*\u2022][ \t]+|\d+[.)][ \t]+)?(\S.*?)\(([^()\n]+)\)[ \t]*+[.,;]?[ \t]*$", re.MULTILINE)
_PAIR = 2
BESIDE = 60
"""Characters beside a span in a line that names it: its class and a sign. A longer line is a sentence."""
NOTHING = frozenset({"no entities", "no entity", "none", "nothing", "n/a"})
"""What stands for no span, as a whole answer or as the class of something that is none."""


def _read(question: GraderQuestion) -> Grade | None:
    value = json_value(question.reference) if question.reference.lstrip()[:1] == "[" else None
    if value == []:
        return _grade_nothing
    gold = _pairs(value)
    return (lambda answer: _grade(gold, answer)) if gold else None


def _grade_nothing(answer: str) -> float | None:
    """Grade against no spans at all: right when the answer says so, wrong when it lists any."""
    if _said(answer):
        return 0.0
    return 1.0 if _says_nothing(answer) else None


def _grade(gold: Counter[tuple[str, str]], answer: str) -> float | None:
    """Grade by F1; an answer with a span that is not read, in words the gold has, decides nothing."""
    said = _said(answer)
    if not said:
        if len(answer) > MAX_CHARS:
            return None
        return 0.0 if _says_nothing(answer) else None
    unread = [] if _pairs(embedded_json(answer)) else [line.casefold() for line in _LINE.sub("", answer).split("\n")]
    missed = [text.casefold() for text, _ in (gold - said)]
    unread += [text.casefold() for text, _ in said if "(" in text]  # two brackets behind a span: which is its class?
    if any(text in line and len(line) < len(text) + BESIDE for text in missed for line in unread):
        return None
    score = span_f1(gold, said)
    in_words = any(text.casefold() in answer.casefold() for text, _ in gold)
    return None if not score and in_words else score


def _says_nothing(answer: str) -> bool:
    return normal_form(answer).removeprefix("answer:").strip() in NOTHING or embedded_json(answer) == []


def span_f1(gold: Counter[tuple[str, str]], said: Counter[tuple[str, str]]) -> float:
    """Return 2 x shared / (gold + said), 0 to 1, each span counted as often as it stands."""
    return 2 * (gold & said).total() / (gold.total() + said.total())


def _folded(pairs: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    folded = Counter[tuple[str, str]]()
    for (text, kind), count in pairs.items():
        folded[" ".join(text.split()).casefold(), kind.strip(" *`").casefold()] += count
    return folded


def _said(answer: str) -> Counter[tuple[str, str]]:
    if len(answer) > MAX_CHARS:
        return Counter()
    listed = _LINE.findall(answer) if "(" in answer else []
    if not listed:
        listed = [pair for pattern in _OTHER_LINES for pair in pattern.findall(answer)]
    plain = [(text.strip(" \t*`\"'“”"), kind.strip(" *`\"'")) for text, kind in listed]
    return _pairs(embedded_json(answer)) or Counter(pair for pair in plain if normal_form(pair[1]) not in NOTHING)


def _pairs(value: Any) -> Counter[tuple[str, str]]:
    pairs = value if isinstance(value, list) else []
    if pairs and all(isinstance(pair, dict) and len(pair) == _PAIR for pair in pairs):
        pairs = [[pair.get(name) for name in _field_names(pair)] for pair in pairs]
    if not all(
        isinstance(pair, list) and len(pair) == _PAIR and all(isinstance(x, str) for x in pair) for pair in pairs
    ):
        return Counter()
    return Counter((text, kind) for text, kind in pairs)


def _field_names(pair: dict[str, Any]) -> tuple[str, str]:
    """Return the names of an object's fields, the one of the class last."""
    one, other = pair
    return (other, one) if _CLASS_FIELD.fullmatch(one) else (one, other)


_CLASS_FIELD = re.compile(r"(?:type|label|class|category|tag|entity_type|kind)", re.IGNORECASE)
_OTHER_LINES = (
    re.compile(
        r"^[ \t]*(?:[-*\u2022][ \t]+|\d+[.)][ \t]+)?(\S[^:|\n]*?)(?::|\u2014|\u2013|->|\u2192|[ \t]-[ \t])[ \t]*\**([A-Z][A-Z_-]+)\**[ \t]*$",  # noqa: E501
        re.MULTILINE,
    ),
    re.compile(r"^[ \t]*\|([^|\n]+)\|[ \t]*([A-Z][A-Z_-]+)[ \t]*\|[ \t]*$", re.MULTILINE),
)
"""`oak: PLANT`, `oak -> PLANT`, and rows of a table; classes in capitals, or any sentence with a colon would be one."""

SPANS = Grader("spans", 0.9843, _read)
