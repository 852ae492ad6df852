"""What holds of every grader: a rendering of the gold value is right or not read, a different value is never the same."""  # noqa: E501

from __future__ import annotations

import itertools
import random
import time

import pytest

from tests.training import label_renderings as renderings
from turnout.training.labels.agreement import agreement
from turnout.training.labels.graders import GraderQuestion
from turnout.training.labels.graders.code import RunLimits
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
    found = grade_answer(answer, LABELLER.graders_for(GraderQuestion(prompt, reference)))
    return None if found is None else found.score


@pytest.mark.parametrize("kind", KINDS)
def test_a_rendering_of_the_gold_value_is_right_or_not_read(kind: str):
    gold, said, prompt = KINDS[kind]
    assert len(said) >= 20
    frames = renderings.FRAMES if kind not in {"json", "spans", "mentions"} else ("{}",)
    graders = LABELLER.graders_for(GraderQuestion(prompt, gold))
    # Every rendering in every frame, one in two dozen with every tail, and the others with two tails each, in turn.
    tails = [renderings.TAILS, *itertools.pairwise(renderings.TAILS)]
    grades = {
        (frame, rendering, tail): grade_answer(frame.format(rendering) + tail, graders)
        for place, (frame, rendering) in enumerate(itertools.product(frames[::3], said))
        for tail in tails[place % len(tails)]
    }
    scores = {case: None if found is None else found.score for case, found in grades.items()}
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
    graders = ReferenceLabeller(code_limits=RunLimits(cpu_s=10, wall_s=60)).graders_for(
        GraderQuestion("Write add.", "assert add(2, 3) == 5\nassert add(-1, 1) == 0")
    )
    scores = {code: grade_answer(code, graders) for code in renderings.CODES}
    assert {code for code, found in scores.items() if found is not None and found.score != 1.0} == set()
    assert sum(found is not None for found in scores.values()) >= len(scores) - 3
    assert grade_answer("I would add the two numbers.", graders) is None
    assert grade_answer("```python\ndef add(a, b):\n    return a - b\n```", graders).score == 0.0


HOSTILE = (
    "10^{10^{10}}", "9" * 25_000, "(" * 12_500, "\\frac{" * 5_000, "\\sqrt{" * 5_000, "1/" * 5_000, "9^9^9^9^9", "2" + "!" * 5_000, "**a " * 5_000, "*" * 25_000,  # noqa: E501
    "<think>" * 5_000, "```" * 7_500, "{" * 12_500, '{"a":' * 5_000, "[" * 12_500, "\\boxed{" * 5_000, "answer is " * 5_000, "Answer: " * 5_000, "1,000," * 5_000, "1 000 " * 5_000,  # noqa: E501
    "A) " * 7_500, "the answer is\n" * 2_500, " " * 50_000, "\n" * 50_000, "not " * 10_000, "wait, " * 7_500, "1 h " * 5_000, "a" * 50_000, "= 5 " * 7_500, "x^2+" * 5_000, "1e999999999", "10**999999", "-" * 25_000,  # noqa: E501
    "I'm sorry " * 5_000, "- oak (" * 5_000, "| a " * 10_000, "'\"" * 10_000, "\u00bd" * 12_500, "\u00b2" * 12_500, "$" * 25_000, "_" * 25_000, "\\(" * 10_000, "\ud800" * 10, "1\u0000" * 1000,  # noqa: E501
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_holds_a_grader_up(text: str):
    """The slowest of these took 0.3 s; a grader that grows with the square of the text would take minutes."""
    start = time.process_time()
    for gold, _, prompt in (KINDS["1000"], KINDS["(0, 1)"], *OTHERS.values()):
        score(gold, text, prompt)
        score(gold, f"The answer is {text}", prompt)
        agreement(text, text[:-1], prompt)
    assert time.process_time() - start < 20
