"""Values: the reference is a number, quantity, date, formula or list, however written, and so is what the answer gives."""  # noqa: E501

from __future__ import annotations

import re

from turnout.training.labels.figures import agrees, is_value, is_whole
from turnout.training.labels.graders import Grade, Grader, GraderQuestion
from turnout.training.labels.values import quantity

_HASHES = re.compile(r"####[ \t]*(\S[^\n]*)")
_JSON_LIKE = re.compile(r"\s*[\[{]\s*(?:[\"{\[]|$)")


MAX_GOLD_CHARS = 200
"""A longer reference is prose, and is not looked at."""


def gold_value(reference: str) -> str | None:
    """Return the value that a reference is: alone, or after a worked solution's `####`; None when it is none."""
    if _JSON_LIKE.match(reference) or (len(reference) > MAX_GOLD_CHARS and "####" not in reference):
        return None
    marked = _HASHES.findall(reference) if "####" in reference else []
    text = (marked[-1] if marked else reference).strip()
    return text if is_value(text) and not _JSON_LIKE.match(text) else None


def _read_number(question: GraderQuestion) -> Grade | None:
    gold = gold_value(question.reference)
    is_number = gold is not None and (is_whole(gold) or quantity(gold) is not None)
    return _grade(gold, question.prompt) if gold is not None and is_number else None


def _read_value(question: GraderQuestion) -> Grade | None:
    gold = gold_value(question.reference)
    return None if gold is None else _grade(gold, question.prompt)


def _grade(gold: str, prompt: str) -> Grade:
    def grade(answer: str) -> float | None:
        if answer.strip() == gold:
            return 1.0
        found = agrees(gold, answer, prompt)
        return None if found is None else float(found)

    return grade


NUMBER = Grader("number", 0.9625, _read_number)
"""Of shapes that are not measured; that of the least sure one (`confidence`)."""
VALUE = Grader("value", 0.96, _read_value)
"""Assumed: no shared row has a date, a list or a formula for its gold answer."""
