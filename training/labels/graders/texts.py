"""Contains: an answer in running text is right when the gold answer stands in it.

Two kinds of reference: a label or a name, which must stand as whole words; and a JSON list of accepted mentions
(`[{"mention": ...}, ...]`, as entity-translation benchmarks have it), of which one must stand in the answer.
Mentions are sought as plain text: languages that inflect by suffix, or write without spaces, have no word ends to seek.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from turnout.training.labels.graders import Grade, Grader, Question
from turnout.training.labels.graders.normalised import is_comparable
from turnout.training.labels.texts import json_value, normal_form, stated_answer


def _read_mentions(question: Question) -> Grade | None:
    wanted = _mentions(json_value(question.reference) if question.reference.lstrip()[:1] == "[" else None)
    return (lambda answer: float(any(mention in _folded(answer) for mention in wanted))) if wanted else None


def _mentions(value: Any) -> list[str]:
    entries = value if isinstance(value, list) else []
    found = [entry.get("mention") if isinstance(entry, dict) else None for entry in entries]
    return [_folded(mention) for mention in found if mention] if all(isinstance(m, str) for m in found) else []


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _read_text(question: Question) -> Grade | None:
    if not is_comparable(question.reference):
        return None
    whole_words = re.compile(rf"(?<!\w){re.escape(normal_form(question.reference))}(?!\w)")

    def grade(answer: str) -> float | None:
        said = normal_form(stated_answer(answer) or answer)
        return float(whole_words.search(said) is not None) if said else None

    return grade


MENTIONS = Grader("mentions", 0.9996, _read_mentions)  # 2,594 of 2,594 labels
CONTAINS = Grader("contains", 0.9, _read_text)
"""Assumed, not measured: no shared row pairs a short gold answer with running text. Negations and hedges fool it."""
