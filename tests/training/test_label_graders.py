"""References of each kind, and what answers score against them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.labels import HELD_OUT, Compared, compare
from tests.log_builders import record
from turnout.training.labels.agreement import agreement
from turnout.training.labels.choices import options
from turnout.training.labels.confidence import _ORDER, MEASURED, MIN_ROWS, shape_of
from turnout.training.labels.graders.json_equality import same_json
from turnout.training.labels.graders.spans import span_f1
from turnout.training.labels.graders.token_f1 import token_f1, words
from turnout.training.labels.reference import KINDS, ReferenceLabeller
from turnout.training.labels.texts import normal_form
from turnout.training.logs.records import Label

SPANS = '[["oak", "PLANT"], ["red fox", "ANIMAL"]]'
MENTIONS = '[{"translation": "Er las Faust.", "mention": "Faust"}, {"mention": "Doktor Faust"}]'
LABELS = '{"a": ["Date", "Time"], "b": ["City"]}'
LONG = "The ferry leaves the island at noon and comes back before the tide turns"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
bags = st.lists(st.sampled_from("abcdef")).map(Counter)


def label(reference: str, answer: str, weak: str | None = None, margin: float = 0.0, prompt: str = "Q") -> Label | None:
    row = record(prompt, strong=answer, weak=answer if weak is None else weak, reference=reference)
    return ReferenceLabeller(margin)(row)


@pytest.mark.parametrize(
    ("reference", "answer", "kind", "score"),
    [
        ("Neutral", "Neutral", "exact", 1.0),
        ("Neutral", "**neutral**.", "normalised", 1.0),
        ("Neutral", "Positive", "normalised", 0.0),
        ("Neutral", "Neutral. The speaker names both sides.", "normalised", 1.0),
        ("yes", "No, because yes would be a lie.", "normalised", 0.0),
        ("Paris", "I believe it must be Paris, on the Seine.", "contains", 1.0),
        ("42", "6 x 7 = 42", "number", 1.0),
        (MENTIONS, "Gestern las er DOKTOR FAUST.", "mentions", 1.0),
        (MENTIONS, "Gestern las er Hamlet.", "mentions", 0.0),
        (SPANS, "oak (PLANT)\nred fox (ANIMAL)", "spans", 1.0),
        (SPANS, "Answer:\n- oak (PLANT)\n- fox (ANIMAL)\n- noon (no entities)", "spans", 0.5),
        (SPANS, '```json\n[["oak", "PLANT"]]\n```', "spans", 2 / 3),
        (SPANS, "no entities", "spans", 0.0),
        ("[]", "Answer: no entities", "spans", 1.0),
        ("[]", "[]", "spans", 1.0),
        ("[]", "oak (PLANT)", "spans", 0.0),
        ('{"x": 1, "y": [2, "z"]}', 'Sure:\n```json\n{"y": [2.0, "z"], "x": 1}\n```\nDone.', "json", 1.0),
        ('{"x": 1}', '{"x": 1, "y": 2}', "json", 0.0),
        ('{"x": 1}', '{"x": true}', "json", 0.0),
        (LABELS, '{"b": ["city"], "a": ["date"]}', "json", (2 / 3 + 1) / 2),
        (LABELS, '{"b": ["city", "These cells all name large towns."], "a": ["time", "date"]}', "json", 1.0),
    ],
)  # fmt: skip
def test_each_kind_of_reference_is_graded_by_its_own_labeller(reference: str, answer: str, kind: str, score: float):
    found = label(reference, answer)
    assert (found.labeller, found.strong_score) == (f"reference:{kind}", pytest.approx(score))


def test_the_less_sure_of_two_graders_names_the_label():
    assert label("Paris", "Paris", "I believe it must be Paris, on the Seine.").labeller == "reference:contains"


def test_every_grader_has_a_name_and_a_confidence_of_its_own():
    graders = [grader for kind in KINDS for grader in kind]
    assert len({grader.name for grader in graders}) == len(graders)
    assert all(0.5 < grader.confidence < 1 for grader in graders)


def test_margin_forgives_a_graded_answer():
    weaker = "oak (PLANT)"
    assert [label(SPANS, "oak (PLANT)\nred fox (ANIMAL)", weaker, margin).match for margin in (0.0, 0.4)] == [0, 1]


def test_long_references_are_graded_only_where_a_margin_is_given():
    near, far = "The ferry leaves at noon and is back before the tide turns", "Nobody knows when ships go anywhere"
    assert label(LONG, near, far) is None
    found = label(LONG, near, far, margin=0.1)
    assert (found.labeller, found.match) == ("reference:token_f1", 0)
    assert found.strong_score > 0.8
    assert found.weak_score < 0.2


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("no", "No doubt about it, yes it is."), ("no", "No question: yes."), ("no", "No one knows."),
        ("no", "No wonder."), ("no", "No problem, yes."), ("no", "No later than May."), ("no", "No less than five."),
        ("no", "No, yes."), ("no", "No matter what, yes."), ("no", "No: yes"), ("no", "No, sorry, yes."),
        ("no", "No longer"), ("yes", "Yes, I see your point, but no."), ("yes", "No doubt, yes"),
        ("yes", "No question: yes."),
        ("no", "Answer: No doubt"), ("no", "No way around it, yes!"),
    ],
)  # fmt: skip
def test_what_begins_with_a_verdict_and_says_another_thing_is_none(reference: str, answer: str):
    assert label(reference, reference, answer) is None


@pytest.mark.parametrize(
    ("reference", "answer"),
    [("yes", "Yes, no doubt."), ("yes", "Yes, it has no wings."), ("no", "No, it has no wings."), ("no", "No."),
     ("no", "No, because yes would be a lie."), ("yes", "Yes. There is no other way.")],
)  # fmt: skip
def test_a_verdict_stays_one_beside_words_of_the_other(reference: str, answer: str):
    assert label(reference, reference, answer).weak_score == 1.0


@pytest.mark.parametrize("sign", ["!", "\u00ac", "~", "! ", "not ", r"\neg "])
@pytest.mark.parametrize("formula", ["p and q", "pq", "true", "Paris", "x + y"])
def test_a_sign_that_negates_is_heard(formula: str, sign: str):
    for answer in (f"{sign}{formula}", f"Answer: {sign}{formula}"):
        assert label(formula, formula, answer) is None or label(formula, formula, answer).match == 0
        assert agreement(f"Answer: {formula}", answer, "Q") is None


@pytest.mark.parametrize(
    ("prompt", "letters"),
    [
        ("It is grown\n(A) in mm\n(B) at 22\n(C) with penicillin G. It\n(D) never", "ABCD"),
        ("About H. influenza\nA: x\nB: y\nC: not (B) \nD: by H. influenza", "ABCD"),
        ("Example:\nA. x\nB. y\nC. z\n\nNow:\nA. v\nB. w", "AB"),
        ("Pick (A) x (B) both (A) and y (C) z (D) w", "ABCD"),
    ],
)
def test_options_are_told_from_other_letters(prompt: str, letters: str):
    assert "".join(options(prompt)) == letters


@given(json_values)
def test_json_is_equal_to_itself_written_otherwise(value):
    def turned(part: Any) -> Any:
        return {key: turned(part[key]) for key in reversed(part)} if isinstance(part, dict) else part

    again = json.loads(json.dumps(turned(value), indent=2))
    assert same_json(value, again)
    assert same_json(again, value)


@given(json_values, json_values)
def test_json_equality_is_symmetric_and_that_of_sorted_text(one, other):
    def text(value) -> str:
        return json.dumps(value, sort_keys=True)

    assert same_json(one, other) == same_json(other, one) == (text(one) == text(other))


@given(bags, bags)
def test_token_f1_is_symmetric_bounded_and_one_only_for_the_same_words(one: Counter, other: Counter):
    f1 = token_f1(one, other)
    assert f1 == token_f1(other, one)
    assert 0 <= f1 <= 1
    assert (f1 == 1) == (one == other and one.total() > 0)


@given(bags.filter(Counter.total), bags)
def test_span_f1_is_symmetric_where_both_list_spans(gold: Counter, said: Counter):
    assert span_f1(gold, said) == (span_f1(said, gold) if said else 0)


@given(st.text(max_size=40))
def test_case_and_emphasis_change_no_words(text: str):
    assert words(f"**{text}** ") == words(text)
    assert normal_form(normal_form(text)) == normal_form(text)


@given(
    st.sampled_from(["apple", "New York", "x^2 + 1"]), st.sampled_from(["{}", "**{}**", "{}.", '"{}"', "Answer: {}"])
)
def test_formatting_changes_no_label(reference: str, form: str):
    assert label(reference, form.format(reference.upper() if reference.isalpha() else reference)).strong_score == 1.0


@pytest.fixture(scope="module")
def pair_rows(shared_data: Path) -> list[Compared]:
    return list(compare(shared_data / "gpt-4o_gpt-4o-mini.parquet"))


@pytest.mark.bench
@pytest.mark.shared_data
def test_stated_confidences_are_those_measured_on_held_out_rows(shared_data: Path, pair_rows: list[Compared]):
    names = ("gpt-4o_gpt-4o-mini-2.parquet", "other-pairs.parquet")
    rows = [*pair_rows, *(row for name in names for row in compare(shared_data / name))]
    hits = defaultdict(list)
    for row in rows:
        if row.half == HELD_OUT and row.record.reference is not None and row.match is not None:
            answers = row.record.strong.content, row.record.weak.content
            key = row.labeller.removeprefix("reference:"), max(map(shape_of, answers), key=_ORDER.index)
            hits[key].append(row.match == row.true_match)
    measured = {key: (sum(found) + 1) / (len(found) + 2) for key, found in hits.items() if len(found) >= MIN_ROWS}
    assert measured == pytest.approx(MEASURED, abs=5e-5)


@pytest.mark.bench
@pytest.mark.shared_data
def test_labels_from_references_agree_with_the_sources_scores(pair_rows: list[Compared]):
    rows = [row for row in pair_rows if row.record.reference is not None and "judge" not in row.scorer]
    rows = [row for row in rows if row.half == HELD_OUT]
    share = {
        name: sum(row.same_scores for row in part) / (2 * len(part))
        for name, part in {
            "choice": [row for row in rows if row.record.task in {"knowledge", "reading-comprehension"}],
            "maths": [row for row in rows if row.record.task == "math"],
            "classification": [row for row in rows if row.record.task == "classification"],
            "all": rows,
        }.items()
    }
    assert share["choice"] >= 0.98
    assert share["maths"] >= 0.97
    assert share["classification"] >= 0.95
    assert share["all"] >= 0.90
