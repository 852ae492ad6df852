"""Normalised: the reference is a class, a name or a formula, compared without what does not change an answer."""

from __future__ import annotations

import re

from turnout.training.labels.graders import Grade, Grader, Question
from turnout.training.labels.texts import is_label, normal_form, stated_answer

_CLAUSE = re.compile(r"[\s*_\"'#>-]*([^\n.,:;!?()]+)")
_VERDICTS = frozenset({"yes", "no", "true", "false"})


def is_comparable(reference: str) -> bool:
    """Whether a reference is a label, name or formula; a letter alone is of use only beside its options."""
    plain = reference.strip()
    return is_label(plain) and len(plain) > 1 and plain[0] not in "[{" and bool(normal_form(plain))


def _read(question: Question) -> Grade | None:
    if not is_comparable(question.reference):
        return None
    wanted = normal_form(question.reference)
    return lambda answer: _grade(answer, wanted)


def _grade(answer: str, wanted: str) -> float | None:
    said = stated_answer(answer) or answer
    if wanted in (normal_form(answer), normal_form(said)):
        return 1.0
    opening = _opening(said)
    if opening == wanted:
        return 1.0
    if wanted in _VERDICTS and opening.partition(" ")[0] in _VERDICTS:
        return float(opening.partition(" ")[0] == wanted)
    return 0.0 if is_label(said) and wanted not in normal_form(said) else None


def _opening(text: str) -> str:
    """Return the first clause in its normal form: `Positive` of "Positive. The speaker ..."."""
    found = _CLAUSE.match(text)
    return normal_form(found[1]) if found else ""


NORMALISED = Grader("normalised", 0.9969, _read)  # 323 of 323 labels, one closed set of classes
