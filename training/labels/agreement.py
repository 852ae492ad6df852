"""Labels from agreement: two answers that end in the same answer are a match, whatever the truth.

Disagreement says nothing (either may be right, or neither), so that this labeller only ever says match:
rows labelled by it alone carry no information about when the strong model is needed.
"""

from __future__ import annotations

from enum import StrEnum

from turnout.training.labels.choices import chosen_letter, options
from turnout.training.labels.graders.json_equality import same_json
from turnout.training.labels.numbers import Number, is_same, stated_number
from turnout.training.labels.texts import is_short, json_value, normal_form, stated_answer
from turnout.training.logs.records import Label, Record

NAME = "agreement"


class Kind(StrEnum):
    """In what the answers agree."""

    IDENTICAL = "identical"
    """The whole text, or the JSON that it is."""
    FINAL = "final"
    """The option, number or short text that both state as their answer."""


CONFIDENCE = {Kind.IDENTICAL: 0.9997, Kind.FINAL: 0.9983}
"""How often such rows are a match by their scores, as (hits + 1) / (rows + 2).

Counted on the held-out half of the shared rows (README.md beside this file): identical 7,168 of 7,169, final 6,472 of
6,482. All of these are short or structured answers: free text that is identical is rare.
"""


def label_by_agreement(record: Record) -> Label | None:
    """Return match = 1 when both answers say the same in the end; None when they don't, or one is missing."""
    if record.strong is None or record.weak is None or not record.strong.content or not record.weak.content:
        return None
    kind = agreement(record.strong.content, record.weak.content, record.prompt.text)
    return None if kind is None else Label(1, f"{NAME}:{kind}", CONFIDENCE[kind])


def agreement(strong: str, weak: str, prompt: str) -> Kind | None:
    """Return in what the two answers agree, None when they don't."""
    if normal_form(strong) == normal_form(weak):
        return Kind.IDENTICAL
    value = json_value(strong)
    if value is not None and same_json(value, json_value(weak)):
        return Kind.IDENTICAL
    first, second = _final(strong, prompt), _final(weak, prompt)
    if isinstance(first, Number) and isinstance(second, Number):
        return Kind.FINAL if is_same(first, second) else None
    return Kind.FINAL if first is not None and first == second else None


def _final(answer: str, prompt: str) -> Number | str | None:
    """Return the option chosen, the number or the short text that the answer states; None when it states none."""
    letter = chosen_letter(answer, options(prompt))
    if letter is not None:
        return letter
    number = stated_number(answer)
    if number is not None:
        return number
    stated = stated_answer(answer)
    if stated is not None and is_short(stated):
        return normal_form(stated)
    return None
