"""Answers that are easily misread get the right label or none, and answers that differ never agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.log_builders import record
from turnout.training.labels import label_records
from turnout.training.labels.values.moments import LANGUAGES, MONTH_START, MONTH_STARTS, _names
from turnout.training.logs.records import Label


def by_question(name: str) -> dict[str, list[tuple[str, str]]]:
    """Return the pairs of a file, a reference or an answer and another answer, by the question asked."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in (Path(__file__).parent / "siblings" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        question, one, other = json.loads(line).values()
        found.setdefault(question, []).append((one, other))
    return found


RIGHT, WRONG, APART = by_question("right"), by_question("wrong"), by_question("apart")


def match(prompt: str, strong: str, weak: str, reference: str | None = None) -> int | None:
    made = label_records([record(prompt, strong=strong, weak=weak, reference=reference)]).decisions[0]
    return made.match if isinstance(made, Label) else None


@pytest.mark.parametrize("prompt", RIGHT)
def test_a_right_answer_is_a_match_or_has_no_label(prompt: str):
    found = {pair: match(prompt, pair[0], pair[1], pair[0]) for pair in RIGHT[prompt]}
    assert {pair for pair, label in found.items() if label == 0} == set()


@pytest.mark.parametrize("prompt", WRONG)
def test_a_wrong_answer_is_no_match_or_has_no_label(prompt: str):
    found = {pair: match(prompt, pair[0], pair[1], pair[0]) for pair in WRONG[prompt]}
    assert {pair for pair, label in found.items() if label == 1} == set()


@pytest.mark.parametrize("prompt", APART)
def test_answers_that_differ_never_agree(prompt: str):
    pairs = [*APART[prompt], *((other, one) for one, other in APART[prompt])]
    assert {pair for pair in pairs if match(prompt, *pair) == 1} == set()


def test_most_of_them_are_read():
    """No label is never wrong, so that a reader of nothing would pass the tests above: at least half are labelled."""
    right = [match(prompt, gold, said, gold) for prompt, pairs in RIGHT.items() for gold, said in pairs]
    wrong = [match(prompt, gold, said, gold) for prompt, pairs in WRONG.items() for gold, said in pairs]
    assert right.count(1) > len(right) / 2
    assert wrong.count(0) > len(wrong) / 3


@pytest.mark.parametrize(
    ("gold", "said", "question", "expected"),
    [
        ("Paris", "It is Paris.", "Capital?", 1),
        ("Paris", "The capital is Paris, on the Seine.", "Which city is the capital?", 1),
        ("Paris", "The largest city is Paris.", "Which city is the capital?", 1),
        ("Paris", "The largest port is Paris.", "What is the capital?", None),
        ("Ada Byron", "The bridge was designed by the engineer Ada Byron in 1840.", "Who designed the bridge?", 1),
        ("Ada Byron", "Ada Byron designed it.", "Who designed the bridge?", 1),
        ("Ada Byron", "It was designed south of Ada Byron's house.", "Who designed the bridge?", None),
    ],
)
def test_a_name_in_a_sentence_counts_where_it_is_what_was_asked_for(gold, said, question, expected):
    assert match(question, gold, said, gold) == expected


@pytest.mark.parametrize(
    ("strong", "weak", "expected"),
    [
        ("3 and 4 make 7.\n\nAnswer: 7", "Adding up, we get 7.\n\nAnswer: 7", 1),
        ("I sent it to Ann.\n\nAnswer: 7", "I sent it to Bob.\n\nAnswer: 7", None),
        ("Hotel: Astoria\nAnswer: 7", "Hotel: Bristol\nAnswer: 7", None),
        ("It rains.\n\nAnswer: Paris", "It snows.\n\nAnswer: Paris", None),
        ("Answer: Paris", "**Answer:** Paris", 1),
    ],
)
def test_a_working_before_equal_figures_may_differ_and_nothing_else(strong, weak, expected):
    assert match("How many?", strong, weak) == expected


def test_month_starts_are_those_of_all_names_of_months():
    assert {name[:MONTH_START] for name in _names()[0]} == MONTH_STARTS
    assert len(LANGUAGES) == 10
