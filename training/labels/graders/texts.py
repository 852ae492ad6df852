"""Contains: an answer in running text is right when the gold answer stands in it, and nothing denies it.

Two kinds of reference: a label or a name, which must stand as whole words in a sentence that denies nothing; and a JSON list
of accepted mentions (`[{"mention": ...}, ...]`, as entity-translation benchmarks have it), of which one must stand in the answer.
Mentions are sought as plain text: languages that inflect by suffix, or write without spaces, have no word ends to seek.
"""  # noqa: E501

from __future__ import annotations

import re
import unicodedata
from typing import Any

from turnout.training.labels.classes import family_of
from turnout.training.labels.graders import Grade, Grader, Question
from turnout.training.labels.graders.normalised import is_comparable
from turnout.training.labels.stretches import MAX_CHARS, Shape, stretches, without_thinking
from turnout.training.labels.texts import json_value, normal_form
from turnout.training.labels.usable import is_refusal

_SENTENCE = re.compile(r"(?<=[.!?。])\s+|\n+")
_DENIES = re.compile(
    r"\b(?:not|never|no|neither|nor|cannot|without|false|wrong|incorrect|rather than|instead of|unlike|except|other than|or|either|maybe|perhaps|might|could|possibly"  # noqa: E501
    r"|confused?|mistaken|often thought|nicht|kein\w*|pas|nunca|jamais|sondern)\b|n['’]t\b|\?",  # noqa: RUF001
    re.IGNORECASE,
)
_CORRECTED = re.compile(
    r"\b(?:wait|actually|correction|scratch that|on second thought|i was wrong|oops)\b", re.IGNORECASE
)
_LOOSE = re.compile(r"[\W_]+")


def _read_mentions(question: Question) -> Grade | None:
    wanted = _mentions(json_value(question.reference) if question.reference.lstrip()[:1] == "[" else None)
    if not wanted:
        return None
    loose = [_loosely(mention) for mention in wanted]

    def grade(answer: str) -> float | None:
        said = _folded(without_thinking(answer))
        if any(mention in said for mention in wanted):
            return 1.0
        # There but for accents, spaces and signs: one more way to write it, or another name.
        return None if not said.strip() or any(mention and mention in _loosely(said) for mention in loose) else 0.0

    return grade


def _mentions(value: Any) -> list[str]:
    entries = value if isinstance(value, list) else []
    found = [entry.get("mention") if isinstance(entry, dict) else None for entry in entries]
    return [_folded(mention) for mention in found if mention] if all(isinstance(m, str) for m in found) else []


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _loosely(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).casefold()
    return _LOOSE.sub("", "".join(char for char in plain if not unicodedata.combining(char)))


def _read_text(question: Question) -> Grade | None:
    if not is_comparable(question.reference) or family_of(normal_form(question.reference)):
        return None
    whole_words = re.compile(rf"(?<!\w){re.escape(normal_form(question.reference))}(?!\w)")

    def grade(answer: str) -> float | None:
        text = without_thinking(answer)
        if len(text) > MAX_CHARS:
            return None
        marked = [one.text for one in stretches(answer) if one.shape in {Shape.MARKED, Shape.JSON}]
        if len(marked) == 1:
            text = marked[0]
        holding = [sentence for sentence in _SENTENCE.split(text)[:400] if whole_words.search(normal_form(sentence))]
        if not holding or _CORRECTED.search(text) or is_refusal(answer):
            return None
        return None if any(map(_DENIES.search, holding)) else 1.0

    return grade


MENTIONS = Grader("mentions", 0.9996, _read_mentions)
CONTAINS = Grader("contains", 0.9, _read_text)
