"""Numbers: the reference is a number, however written, and the answer ends in one."""

from __future__ import annotations

from turnout.training.labels.graders import Grade, Grader, Question
from turnout.training.labels.numbers import final_number, gold_number, is_right, states_no_number


def _read(question: Question) -> Grade | None:
    gold = gold_number(question.reference)
    if gold is None:
        return None

    def grade(answer: str) -> float | None:
        found = final_number(answer)
        if found is not None:
            is_gold = is_right(found, gold)
            return None if is_gold and found.is_operand else float(is_gold)  # 3 is not what 2\sqrt{3} is
        return 0.0 if states_no_number(answer) else None

    return grade


NUMBER = Grader("number", 0.9947, _read)
"""1,698 of 1,706 labels; all misses but one are in a source that has its own way to read amounts."""
