"""Multiple choice: the reference is an option's letter or its text, and so is what the answer picks.

Where the reference lists several letters, an answer scores the share of all letters in either list that are in both.
"""

from __future__ import annotations

from turnout.training.labels.choices import chosen_letter, chosen_letters, gold_letter, gold_letters, options
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


CHOICE = Grader("choice", 0.9999, _read)  # 99.99 % of 13,905 labels


def _read_several(question: GraderQuestion) -> Grade | None:
    offered = options(question.prompt)
    wanted = gold_letters(question.reference, offered)
    if wanted is None:
        return None

    def grade(answer: str) -> float | None:
        chosen = chosen_letters(answer, offered)
        return None if chosen is None else len(chosen & wanted) / len(chosen | wanted)

    return grade


CHOICES = Grader("choices", 0.96, _read_several)
"""Assumed: no shared row has a reference of several letters."""
