"""What holds of every grader: a rendering of the gold value is right or not read, a different value is never the same."""  # noqa: E501

from __future__ import annotations

import itertools
import random
import time

import pytest

from tests.training import label_renderings as renderings
from turnout.training.labels.agreement import agreement
from turnout.training.labels.graders import Question
from turnout.training.labels.graders.code import Limits
from turnout.training.labels.reference import ReferenceLabeller, grade_answer

LABELLER = ReferenceLabeller()
HOW_MUCH = "How much is it?"
OTHERS = {
    "choice": ("B", renderings.CHOICES, renderings.CHOICE_PROMPT),
    "class": ("positive", renderings.CLASSES, renderings.CLASS_PROMPT),
    "name": ("The Beatles", renderings.NAMES, "Which band?"),
    "verdict": ("False", renderings.VERDICTS, "True or false?"),
    "json": (renderings.JSONS[0], renderings.JSONS, renderings.EXTRACT_PROMPT),
    "spans": ('[["oak", "PLANT"], ["red fox", "ANIMAL"]]', renderings.SPANS, "Mark the spans."),
    "mentions": ('[{"mention": "Faust"}]', renderings.MENTIONS, "Translate."),
}
KINDS = {gold: (gold, said, HOW_MUCH) for gold, said in (renderings.NUMBERS | renderings.VALUES).items()} | OTHERS


def score(reference: str, answer: str, prompt: str) -> float | None:
    found = grade_answer(answer, LABELLER.graders_for(Question(prompt, reference)))
    return None if found is None else found.score


@pytest.mark.parametrize("kind", KINDS)
def test_a_rendering_of_the_gold_value_is_right_or_not_read(kind: str):
    gold, said, prompt = KINDS[kind]
    assert len(said) >= 20
    frames = renderings.FRAMES if kind not in {"json", "spans", "mentions"} else ("{}",)
    scores = {
        (frame, rendering, tail): score(gold, frame.format(rendering) + tail, prompt)
        for frame, rendering, tail in itertools.product(frames[::3], said, renderings.TAILS)
    }
    assert {case: found for case, found in scores.items() if found not in (1.0, None)} == {}
    assert sum(found == 1.0 for found in scores.values()) > len(scores) / 4  # it reads them, too


@pytest.mark.parametrize("frame", renderings.FRAMES)
def test_different_values_are_never_the_same(frame: str):
    for one, other in renderings.DIFFERENT:
        for gold, said in ((one, other), (other, one)):
            assert score(gold, frame.format(said), HOW_MUCH) != 1.0, (gold, said)
            assert agreement(frame.format(gold), frame.format(said), HOW_MUCH) is None, (gold, said)


def test_every_pair_of_renderings_of_different_numbers_differs():
    rng = random.Random(1)
    for one, other in itertools.permutations(renderings.NUMBERS, 2):
        for said in rng.sample(renderings.NUMBERS[other], 10):
            assert score(one, f"The answer is {said}", HOW_MUCH) != 1.0, (one, said)


def test_code_in_any_fence_passes_its_tests_and_prose_has_no_score():
    graders = ReferenceLabeller(code_limits=Limits(cpu_s=10, wall_s=60)).graders_for(
        Question("Write add.", "assert add(2, 3) == 5\nassert add(-1, 1) == 0")
    )
    scores = {code: grade_answer(code, graders) for code in renderings.CODES}
    assert {code for code, found in scores.items() if found is not None and found.score != 1.0} == set()
    assert sum(found is not None for found in scores.values()) >= len(scores) - 3
    assert grade_answer("I would add the two numbers.", graders) is None
    assert grade_answer("```python\ndef add(a, b):\n    return a - b\n```", graders).score == 0.0


HOSTILE = (
    "10^{10^{10}}", "9" * 100_000, "(" * 50_000, "\\frac{" * 20_000, "\\sqrt{" * 20_000, "1/" * 20_000, "9^9^9^9^9", "2" + "!" * 5_000, "**a " * 20_000, "*" * 100_000,  # noqa: E501
    "<think>" * 20_000, "```" * 30_000, "{" * 50_000, '{"a":' * 20_000, "[" * 50_000, "\\boxed{" * 20_000, "answer is " * 20_000, "Answer: " * 20_000, "1,000," * 20_000, "1 000 " * 20_000,  # noqa: E501
    "A) " * 30_000, "the answer is\n" * 10_000, " " * 200_000, "\n" * 200_000, "not " * 40_000, "wait, " * 30_000, "1 h " * 20_000, "a" * 200_000, "= 5 " * 30_000, "x^2+" * 20_000, "1e999999999", "10**999999", "-" * 100_000,  # noqa: E501
    "I'm sorry " * 20_000, "- oak (" * 20_000, "| a " * 40_000, "'\"" * 40_000, "\u00bd" * 50_000, "\u00b2" * 50_000, "$" * 100_000, "_" * 100_000, "\\(" * 40_000, "\ud800" * 10, "1\u0000" * 1000,  # noqa: E501
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_holds_a_grader_up(text: str):
    """Each of these took under a second; a grader that grows with the square of the text would take hours."""
    start = time.process_time()
    for gold, _, prompt in (KINDS["1000"], KINDS["(0, 1)"], *OTHERS.values()):
        score(gold, text, prompt)
        score(gold, f"The answer is {text}", prompt)
        agreement(text, text[:-1], prompt)
    assert time.process_time() - start < 60
