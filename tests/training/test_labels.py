"""Which labeller decides, and what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.log_builders import record
from turnout.training.labels import label_records
from turnout.training.labels.agreement import agreement, label_by_agreement
from turnout.training.labels.choices import options
from turnout.training.labels.reference import ReferenceLabeller
from turnout.training.logs.records import Label, Record, Response

CHOICE = "Which is a fruit?\nA. stone\nB. apple\nC. chair"


def label(row: Record, margin: float = 0.0) -> Label | None:
    labelled = label_records([row], margin=margin).labelled
    return labelled[0].label if labelled else None


@pytest.mark.parametrize(("strong", "weak", "match"), [(1, 1, 1), (1, 0, 0), (0, 1, 1), (0, 0, 1), (0.5, 0.4, 0)])
def test_scores_match_when_the_weak_one_is_not_lower(strong: float, weak: float, match: int):
    assert label(record(strong_score=strong, weak_score=weak)) == Label(match, "scores", 1.0, strong, weak)


def test_margin_forgives_a_small_loss():
    row = record(strong_score=0.5, weak_score=0.4)
    assert [label(row, margin).match for margin in (0.0, 0.2)] == [0, 1]


@pytest.mark.parametrize(("preference", "match"), [("strong", 0), ("weak", 1), ("tie", 1)])
def test_only_a_preferred_strong_answer_is_no_match(preference: str, match: int):
    assert label(record(preference=preference)) == Label(match, "preference", 1.0)


def test_the_first_labeller_that_applies_decides():
    row = {"prompt": CHOICE, "strong": "B", "weak": "B", "reference": "B", "preference": "strong"}
    names = []
    for without in ([], ["scores"], ["preference"], ["reference"]):
        for name in without:
            row.pop(name, None)
        scores = {} if without else {"strong_score": 1, "weak_score": 0}
        names.append(label(record(**row, **scores)).labeller)
    assert names == ["scores", "preference", "reference:choice", "agreement:identical"]


def test_records_without_a_label_are_counted_by_why():
    rows = [record(), record(strong="a"), record(weak="a"), record(strong="a", weak="b"), record(strong="", weak="b")]
    result = label_records(rows)
    assert not result.labelled
    assert result.unlabelled == {"only_weak": 2, "no_answer": 1, "only_strong": 1, "undecided": 1}


@pytest.mark.parametrize(
    "answer",
    ["B", "(B)", "B.", "B) apple", "**B**", "The answer is **B**.", "Answer: B", "Answer:B", "apple", "Apple.",
     '{"answer": "B"}',
     '```json\n{"reasoning": "A is a stone", "answer": "B"}\n```', "A is hard, so the answer is (B).", r"\boxed{B}"],
)  # fmt: skip
def test_a_choice_is_read_in_any_usual_form(answer: str):
    found = ReferenceLabeller()(record(CHOICE, strong=answer, weak="C", reference="B"))
    assert (found.strong_score, found.weak_score, found.match) == (1.0, 0.0, 0)


@pytest.mark.parametrize("answer", ["I can't say.", "D", "The answer is A. The answer is B.", "A or B"])
def test_an_unclear_choice_gives_no_label(answer: str):
    assert ReferenceLabeller()(record(CHOICE, strong="B", weak=answer, reference="B")) is None


FRUITS = "Which of these are fruits? Choose all that apply.\nA) stone\nB) apple\nC) plum\nD) chair"


@pytest.mark.parametrize(
    "answer",
    [
        "B, C", "**B** and **C**", "- B\n- C", "B C", "B & C", "B; C", "B,C,D", "B, C, and D", "B und C", "B et C",
        "B y C", "B e C", "B/C", "B + C", "(B), (C)", "(B) and (C)", "B) apple, C) plum", "B) apple and C) plum",
        "Options B and C", "B as well as C", "B, also C", "B, then C", "B. C.", "B) and C)", "B.\n\nC.", "B\nC",
        "1. B\n2. C",
        "B (apple) and C (plum)", "B, C: both are fruits", "B, C are right.", "**B)** apple\n**C)** plum",
        "The answers are:\n- B\n- C", "The answers are:\n- B) apple\n- C) plum", r"\boxed{B, C}", '{"answer": "B, C"}',
        '{"answer": ["B", "C"]}', "The answer is B. C is also correct.", "The fruits are B and C.", "B, c",
    ],
)  # fmt: skip
def test_several_options_are_not_the_first_of_them(answer: str):
    assert label(record(FRUITS, strong="B", weak=answer, reference="B")) is None
    for said in (answer, f"Answer: {answer}"):
        assert label(record(FRUITS, strong="Answer: B", weak=said)) is None


@pytest.mark.parametrize(
    "answer",
    ["B, because A is a stone", "B, a fruit", "B. A is a stone.", "B. C is a fruit of another kind",
     "B and C grow, but the answer is B", "The answer is B and C. Since only one may be picked, the answer is B."],
)  # fmt: skip
def test_another_letter_in_a_reason_changes_no_choice(answer: str):
    assert label(record(FRUITS, strong="C", weak=answer, reference="B")).weak_score == 1


@pytest.mark.parametrize("reference", ["B, C", "B and C", "BC", "(B), (C)", "B; C"])
@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("C, B", 1), ("- B\n- C", 1), ("Answer: B and C", 1), ("B", 1 / 2), ("B, D", 1 / 3), ("A", 0),
        ("B, C, D", 2 / 3), ("B or C", None), ("B, C, and perhaps D", None), ("B, E", None),
    ],
)  # fmt: skip
def test_a_reference_of_several_options_is_compared_with_all_that_an_answer_picks(reference: str, answer: str, score):
    found = label(record(FRUITS, strong=reference, weak=answer, reference=reference))
    assert (found and found.weak_score) == (score if score is None else pytest.approx(score))
    assert found is None or (found.labeller, found.match) == ("reference:choices", score == 1)


@pytest.mark.parametrize(
    ("strong", "weak"), [("B, C", "A B"), ("B, C", "B"), ("B, C", "B, D"), ("B; C", "B; D"), ("B", "A B")]
)
def test_two_lists_of_options_that_differ_do_not_agree(strong: str, weak: str):
    assert agreement(f"Answer: {strong}", f"Answer: {weak}", FRUITS) is None
    assert agreement(f"Answer: {weak}", f"Answer: {strong}", FRUITS) is None


@pytest.mark.parametrize("prompt", ["Pick:\nA) x\nB) y", "Pick: (A) x (B) y", "Pick\nA: x\nB: y\n\nAnswer:"])
def test_options_are_found_in_any_usual_form(prompt: str):
    assert options(prompt) == {"A": "x", "B": "y"}


def test_options_with_a_gap_are_no_options():
    assert options("vitamin B: see (D) below") == {}


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("42", "42"),
        ("42", "so it is 6 * 7 = 42."), ("42", "#### 42"), ("42", '{"reasoning": "6 x 7", "answer": "42"}'),
        ("#### 1,234", "1234 apples"), ("6 + 6 = 12\n#### 12", "The answer is $12.00"),
        ("0.75", r"\boxed{\frac{3}{4}}"),
        ("3/4", "0.75"), (r"\frac{3}{4}", "the total is 3/4"), ("-5", "It is -5 degrees."), ("12%", "about **12 %**"),
        ("1,000", "1000.0"), ("18 km", "Final answer: 18 km"), ("2.50", "It costs $2.5"),
    ],
)  # fmt: skip
def test_a_number_is_equal_by_value(reference: str, answer: str):
    found = ReferenceLabeller()(record(strong=answer, weak="7777", reference=reference))
    assert (found.strong_score, found.weak_score, found.match) == (1.0, 0.0, 0)


@given(st.integers(-(10**9), 10**9), st.integers(0, 99))
def test_any_way_to_write_a_number_is_read_alike(whole: int, cents: int):
    value = f"{whole}.{cents:02d}"
    grouped = f"{whole:,}.{cents:02d}"
    found = ReferenceLabeller()(record(strong=f"We get {grouped}.", weak=f"#### {value}", reference=value))
    assert (found.strong_score, found.weak_score) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("reference", "strong", "weak", "scores"),
    [
        ("Positive", "positive", "Negative", (1.0, 0.0)),
        ("New York", "**New York**.", "New  York", (1.0, 1.0)),
        ("x^2 + 1", "$x^2+1$", "x^2", (1.0, 0.0)),
        (r"\frac{x}{2}", r"\boxed{\dfrac{x}{2}}", r"\boxed{\frac{x}{3}}", (1.0, 0.0)),
        ("Paris", "The capital of France is Paris", "Paris.", (1.0, 1.0)),
        ("Paris", "Paris", "Lyon", None),
        ("Germany", "Germany", "Deutschland", None),
    ],
)
def test_a_short_text_is_equal_in_its_normal_form(
    reference: str, strong: str, weak: str, scores: tuple[float, float] | None
):
    found = ReferenceLabeller()(record("What is the capital?", strong=strong, weak=weak, reference=reference))
    assert (found and (found.strong_score, found.weak_score)) == scores


@pytest.mark.parametrize(
    "reference",
    [
        "The council met twice, argued about the roof, and in the end agreed to sell the ferry.",
        "assert f(2) == 4",
        "B",
        "",
    ],
)
def test_a_reference_that_needs_judgement_gives_no_label(reference: str):
    assert ReferenceLabeller()(record(strong="Hallo", weak="Hello", reference=reference)) is None


@pytest.mark.parametrize(
    ("prompt", "strong", "weak"),
    [
        ("Why?", "Because.", "because"),
        (CHOICE, "B", "The answer is (B)."),
        ("How many?", "6 x 7.\n#### 42", "The answer is 42.0"),
        ("JSON?", '{"a": 1, "b": [2]}', '```json\n{"b": [2], "a": 1}\n```'),
    ],
)
def test_two_answers_that_end_alike_are_a_match(prompt: str, strong: str, weak: str):
    found = label_by_agreement(record(prompt, strong=strong, weak=weak))
    assert (found.match, found.family, found.strong_score) == (1, "agreement", None)


@pytest.mark.parametrize(
    ("strong", "weak"),
    [("A tale of 3 cities.", "It took 3 days."), ("Answer:\ncat\ndog", "Answer:\ncat\nhen"), ("yes", "no"), ("", "")],
)
def test_answers_that_differ_or_state_nothing_get_no_label(strong: str, weak: str):
    assert label_by_agreement(record(strong=strong, weak=weak)) is None


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=30))
def test_no_text_makes_a_labeller_raise(prompt: str, answer: str, reference: str):
    result = label_records([record(f"{prompt} ", strong=answer, weak=reference + answer, reference=reference)])
    assert len(result.labelled) + sum(result.unlabelled.values()) == 1


LONG = 20_000
SLOW = {
    "open braces": "{" * 5000,
    "open boxes": "\\boxed{" * 3000,
    "letters": "A. " * 5000,
    "leads": "answer " * 5000,
    "commas": "1," * 5000,
    "spaces": " " * LONG,
    "letters by line": "A\n" * 60 + "x1",
    "no fence of tildes": "~" * LONG + "`",
    "no block in a line": "```" + " " * 4000 + "`x```",
    "no quotation": "«" + " " * LONG,
    "no table": "|" + " " * LONG,
    "no span": "x" + " " * LONG + "(a",
    "no end of a span": "x (A)" + " " * LONG + "x",
    "no class": "x" + " " * LONG + "A",
    "empty lines": "Answer: A" + "\n" * LONG + 'x not "',
}
OPTIONS = "Which of these?\nA) ant\nB) bee\nC) cow\nD) dog"


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW)
@pytest.mark.timeout(60)
def test_no_text_takes_long_to_read(text: str):
    rows = [record(text, strong=text, weak=text + "x", reference="42")]
    for prompt, reference in (
        (OPTIONS, "B, C"),
        (OPTIONS, "B"),
        ("Why?", '[["a", "B"]]'),
        ("Is it?", "yes"),
        ("x", "[]"),
    ):
        rows += [record(prompt, strong=text, weak=text + "x", reference=reference)]
    rows += [record(prompt, strong="B", weak="C", reference=text) for prompt in (OPTIONS, "Why?")]
    label_records(rows)


UNUSABLE = {
    "empty": Response(""),
    "blank": Response("  \n"),
    "refused by the provider": Response("No.", is_refusal=True),
    "refused in words": Response("I'm sorry, but I can't help with that."),
    "refused in German": Response("Es tut mir leid, aber ich kann dabei nicht helfen."),
    "cut off": Response("The town is", finish_reason="length"),
    "filtered": Response("The", finish_reason="content_filter"),
    "cut off in its JSON": Response('{"town": "Tow'),
    "still thinking": Response("<think>Which town could it"),
}


@pytest.mark.parametrize("weak", UNUSABLE.values(), ids=UNUSABLE)
@pytest.mark.parametrize("reference", [None, "Town"])
def test_an_unusable_answer_beside_a_usable_one_is_no_match(weak: Response, reference: str | None):
    row = replace(record(strong="Town", reference=reference), weak=weak)
    assert label(row).match == 0
    turned = replace(row, strong=weak, weak=row.strong)
    assert label(turned) is None or label(turned).match == 1


def test_two_unusable_answers_say_nothing():
    for weak in UNUSABLE.values():
        assert label(replace(record(strong="x"), strong=UNUSABLE["refused in words"], weak=weak)) is None


@pytest.mark.parametrize(
    ("strong", "weak"),
    [
        ('{"answer": "yes", "amount": 100}', '{"answer": "yes", "amount": 250}'),
        ('[{"q": 1, "answer": "A"}, {"q": 2, "answer": "B"}]', '[{"q": 1, "answer": "C"}, {"q": 2, "answer": "B"}]'),
        ("The answer is as follows:\n1. Restart it.", "The answer is as follows:\n1. Throw it away."),
        ("The answer is it depends.\nRent.", "The answer is it depends.\nBuy."),
        ("The short answer is yes. But ask first.", "The short answer is yes. Take all you like."),
        ("```python\nfor i in x:\n    a()\nb()\n```", "```python\nfor i in x:\n    a()\n    b()\n```"),
        ("for i in x:\n    a()\nb()", "for i in x:\n    a()\n    b()"),
        ("x = a_1", "x = a1"), ("2**3", "23"), ("100 MB", "100 Mb"), ("Answer: 3 weeks", "Answer: 3 months"),
        ("Answer: 5 (Bob's)", "Answer: 5 (Ann's)"), ("Answer: 5\nAlso, Bob left.", "Answer: 5\nAlso, Ann left."),
        ("Q1: the answer is A. Q2: the answer is B.", "Q1: the answer is C. Q2: the answer is B."),
        ("In 1990 Ann won.", "In 1990 Bob won."), ("", ""),
    ],
)  # fmt: skip
def test_answers_that_differ_in_anything_of_use_do_not_agree(strong: str, weak: str):
    assert agreement(strong, weak, "What?") is None
