"""Exact: an answer that is the reference, character by character, is right; any other it can't read."""

from __future__ import annotations

from turnout.training.labels.graders import Grade, Grader, GraderQuestion


def _read(question: GraderQuestion) -> Grade | None:
    wanted = question.reference.strip()
    return (lambda answer: 1.0 if answer.strip() == wanted else None) if wanted else None


EXACT = Grader("exact", 0.9986, _read)  # 720 of 720 labels
