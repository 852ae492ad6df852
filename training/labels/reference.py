"""Labels from a gold answer: both answers are graded against it, and match = weak >= strong - margin.

The kind of the reference decides which graders are asked, in the order of `KINDS`; for an answer, the first of them
that can read it decides. A row where either answer can't be read gets no label: no label is better than a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from turnout.training.labels.confidence import confidence_of
from turnout.training.labels.graders import Grade, Grader, GraderQuestion
from turnout.training.labels.graders.choice import CHOICE, CHOICES
from turnout.training.labels.graders.code import RunLimits, code_grader, is_tests
from turnout.training.labels.graders.exact import EXACT
from turnout.training.labels.graders.json_equality import JSON
from turnout.training.labels.graders.normalised import NORMALISED
from turnout.training.labels.graders.spans import SPANS
from turnout.training.labels.graders.texts import CONTAINS, MENTIONS
from turnout.training.labels.graders.token_f1 import TOKEN_F1
from turnout.training.labels.graders.values import NUMBER, VALUE
from turnout.training.labels.usable import flaw, is_refusal, knows_nothing
from turnout.training.logs.records import Label, Record, Response

NAME = "reference"
KINDS: tuple[tuple[Grader, ...], ...] = (
    (MENTIONS,),
    (CHOICE,),
    (CHOICES,),
    (NUMBER,),
    (SPANS,),
    (JSON,),
    (VALUE,),
    (EXACT, NORMALISED, CONTAINS),
)
"""Kinds of reference, tried in this order: the first with a grader that reads it is its kind."""


@dataclass(frozen=True, slots=True)
class Graded:
    """What an answer scored, 0 to 1, and by whom."""

    score: float
    grader: Grader
    is_unusable: bool = False
    """Whether nothing was answered: empty, cut off, refused."""


@dataclass(frozen=True)
class ReferenceLabeller:
    """Labels records by their references.

    Attributes:
        margin: by how much the weak score may fall below the strong one and still match. Above 0, long references
            are graded by token F1; at 0 they get no label.
        code_limits: within what the answers' code may be run against given tests; None runs none.
    """

    margin: float = 0.0
    code_limits: RunLimits | None = None

    def __call__(self, record: Record) -> Label | None:
        """Return the label; None without a reference, or where an answer is missing or can't be read."""
        if record.reference is None or record.strong is None or record.weak is None:
            return None
        if not record.strong.content:
            return None
        graders = self.graders_for(GraderQuestion(record.prompt.text, record.reference))
        strong = _graded(record.strong, graders, record.reference)
        weak = _graded(record.weak, graders, record.reference) if strong else None
        if strong and weak and strong.is_unusable and weak.is_unusable:
            return None
        if strong is None or weak is None:
            return None
        least = min(strong.grader, weak.grader, key=lambda grader: grader.confidence)
        match = int(weak.score >= strong.score - self.margin)
        sure = confidence_of(least.name, least.confidence, record.strong.content, record.weak.content or "")
        return Label(match, f"{NAME}:{least.name}", sure, strong.score, weak.score)

    def graders_for(self, question: GraderQuestion) -> list[tuple[Grader, Grade]]:
        """Return the graders of the reference's kind with how they grade; empty when it is of none."""
        if is_tests(question.reference):
            return _readable((self._code,) if self._code else (), question)
        for kind in self._kinds:
            if found := _readable(kind, question):
                return found
        return []

    @cached_property
    def _code(self) -> Grader | None:
        return code_grader(self.code_limits) if self.code_limits else None

    @cached_property
    def _kinds(self) -> tuple[tuple[Grader, ...], ...]:
        return (*KINDS[:-1], (*KINDS[-1], TOKEN_F1)) if self.margin > 0 else KINDS


def _graded(answer: Response, graders: Sequence[tuple[Grader, Grade]], reference: str) -> Graded | None:
    """Grade an answer; one that can't be used, or says that it doesn't know, is wrong unless the gold one does too."""
    content = answer.content or ""
    if not graders or (answer.content is None and not flaw(answer)):
        return None
    if (flaw(answer) or knows_nothing(content)) and not (is_refusal(reference) or knows_nothing(reference)):
        is_gold = content.strip() == reference.strip()
        return None if is_gold else Graded(0.0, graders[0][0], is_unusable=bool(flaw(answer)))
    return grade_answer(content, graders)


def grade_answer(answer: str, graders: Sequence[tuple[Grader, Grade]]) -> Graded | None:
    """Return the score of the first grader that can read the answer; None when none can."""
    for grader, grade in graders:
        if (score := grade(answer)) is not None:
            return Graded(score, grader)
    return None


def _readable(graders: Sequence[Grader], question: GraderQuestion) -> list[tuple[Grader, Grade]]:
    return [(grader, grade) for grader in graders if (grade := grader.read(question)) is not None]
