"""Multiple choice: the reference is an option's letter or its text, and so is what the answer picks."""

from __future__ import annotations

from turnout.training.labels.choices import chosen_letter, gold_letter, options
from turnout.training.labels.graders import Grade, Grader, GraderQuestion


def _read(question: GraderQuestion) -> Grade | None:
    offered = options(question.prompt)
    letter = gold_letter(question.reference, offered)
    if letter is None:
        return None

    def grade(answer: str) -> float | None:
        chosen = chosen_letter(answer, offered)
        return None if chosen is None else float(chosen == letter)

    return grade


CHOICE = Grader("choice", 0.9999, _read)  # 13,910 of 13,911 labels
