"""Labels from a gold answer, where it is of a kind that can be compared without judgement.

A reference is read as a multiple choice, a number or a short text, in this order. Long texts, JSON
(several gold mentions, call arguments) and unit tests are left alone, and so is a row where either
model's answer can't be read: no label is better than a guess.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from training.labels.choices import chosen_letter, gold_letter, is_letter, options
from training.labels.numbers import final_number, gold_number
from training.labels.texts import is_label, normal_form, stated_answer
from training.records import Label, Record

NAME = "reference"


class Kind(StrEnum):
    """What a reference was read as."""

    CHOICE = "choice"
    NUMBER = "number"
    TEXT = "text"


CONFIDENCE = {Kind.CHOICE: 0.9998, Kind.NUMBER: 0.9955, Kind.TEXT: 0.9995}
"""How often the label from reference and answers equals the label from the scores that those rows also carry.

Counted on 62,093 public evaluation rows of four pairs of models: choice 27,548 of 27,552, number 3,302 of 3,316
(13 of the other 14 are in one source, which has its own way to read amounts), text 2,100 of 2,100 (one closed set of
three classes: names with several spellings are not measured). As (hits + 1) / (rows + 2). Both sides use the same
gold, so that this says how well answers are read, not how good the gold is.
"""

Judge = Callable[[str], bool | None]
"""Whether an answer is right; None when it can't be read."""


def label_by_reference(record: Record) -> Label | None:
    """Score both answers 0 or 1 against the reference; match = `weak >= strong`. None where that can't be done."""
    if record.reference is None or record.strong is None or record.weak is None:
        return None
    found = judge_for(record.reference, record.prompt.text)
    if found is None or not record.strong.content or not record.weak.content:
        return None
    kind, judge = found
    strong, weak = judge(record.strong.content), judge(record.weak.content)
    if strong is None or weak is None:
        return None
    return Label(int(weak >= strong), NAME, CONFIDENCE[kind], float(strong), float(weak))


def judge_for(reference: str, prompt: str) -> tuple[Kind, Judge] | None:
    """Return how answers to this prompt are judged by this reference; None when the reference can't be compared."""
    offered = options(prompt)
    if letter := gold_letter(reference, offered):
        return Kind.CHOICE, lambda answer: _equal(chosen_letter(answer, offered), letter)
    if (number := gold_number(reference)) is not None:
        return Kind.NUMBER, lambda answer: _equal(final_number(answer), number)
    wanted = normal_form(reference)
    if not wanted or is_letter(reference) or not is_label(reference) or reference.lstrip()[0] in "[{":
        return None
    return Kind.TEXT, lambda answer: _same_text(answer, wanted)


def _equal(found: object, wanted: object) -> bool | None:
    return None if found is None else found == wanted


def _same_text(answer: str, wanted: str) -> bool | None:
    """Compare an answer with a label; one that says more than the label can't be read."""
    said = stated_answer(answer) or answer
    if wanted in (normal_form(answer), normal_form(said)):
        return True
    return False if is_label(said) and wanted not in normal_form(said) else None
