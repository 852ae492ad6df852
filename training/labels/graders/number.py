"""Numbers: the reference is a number, however written, and the answer ends in one."""

from __future__ import annotations

from training.labels.graders import Grade, Grader, Question
from training.labels.numbers import final_number, gold_number, is_right


def _read(question: Question) -> Grade | None:
    gold = gold_number(question.reference)
    if gold is None:
        return None

    def grade(answer: str) -> float | None:
        found = final_number(answer)
        return None if found is None else float(is_right(found, gold))

    return grade


NUMBER = Grader("number", 0.9955, _read)
