"""Numbers as answers write them: one value, many renderings."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.log_builders import record
from turnout.training.labels.agreement import agreement
from turnout.training.labels.reference import ReferenceLabeller
from turnout.training.labels.values import quantity, same_value
from turnout.training.labels.values.comparison import same_quantity
from turnout.training.labels.values.quantities import Alternative, Quantity
from turnout.training.labels.values.units import PLAIN, UNITS

quantities = st.builds(
    lambda value, unit, decimals: Quantity((Alternative(value, unit),), decimals),
    st.fractions(min_value=-(10**9), max_value=10**9, max_denominator=10**4),
    st.sampled_from([PLAIN, *UNITS.values()]),
    st.integers(0, 4),
)


def scores(reference: str, answer: str, prompt: str = "How much?") -> float | None:
    found = ReferenceLabeller()(record(prompt, strong=answer, weak=answer, reference=reference))
    return found.strong_score if found else None


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        (r"\frac{1}{2}", "0.5"), (r"1\frac{1}{2}", "3/2"), ("1 1/2", "1.5"), (r"-\frac{3}{4}", "-0.75"),
        ("0.12", "12%"), ("12%", "0.12"), ("1200000", "$1.2 million"), ("1.2 million", "1,200,000"),
        ("5e3", "5000"), (r"1.5 \times 10^{3}", "1,500"), ("6.02*10^23", "6.02e23"), (r"2 \cdot 10^{-3}", "0.002"),
        ("120 minutes", "2 hours"), ("2 km", "2000 m"), ("18 km", "18"), ("7 apples", "7"), ("50 cents", "$0.50"),
        ("33.33", r"\frac{100}{3}"), ("0.67", "2/3"), (r"18\text{ km}", "The answer is 18 km."), ("1000", r"1{,}000"),
        ("€20", "20 €"), ("5", "x = 5"), ("$20", "\\boxed{\\$20.00}"), ("#### 15", "so 15 in all.\n#### 15 dollars"),
        ("7", "Answer: seven"), ("0.5", "Answer: half"), ("10^3", "It is 1000"),
    ],
)  # fmt: skip
def test_renderings_of_one_value_are_right(reference: str, answer: str):
    assert scores(reference, answer) == 1.0


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("5 m", "5 km"), ("2 hours", "2 minutes"), ("13.9", "13.11"), ("33", "35.33"), ("12%", "1.2%"),
        ("3", "infinity"), ("7", "none of these"), ("1e3", "100"), ("-5", "5"), ("1/2", "1/3"),
    ],
)  # fmt: skip
def test_other_values_are_wrong(reference: str, answer: str):
    assert scores(reference, f"Answer: {answer}") == 0.0


@pytest.mark.parametrize("answer", ["The answer is 24, not 42.", "Answer: 24 rather than 42", "Answer: not 42 but 24"])
def test_a_number_that_the_answer_denies_is_not_its_answer(answer: str):
    assert (scores("24", answer), scores("42", answer)) == (1.0, 0.0)


@pytest.mark.parametrize(
    "answer", [r"\boxed{2\sqrt{3}}", r"\boxed{2\sqrt 3}", "It is 10^3", "Answer: 5 cm^{3}", "so √3"]
)
def test_a_number_inside_a_formula_is_not_its_value(answer: str):
    assert scores("3", answer) != 1.0


@pytest.mark.parametrize(
    "said",
    [
        "x \u2260 5", "x != 5", "x!=5", "x =/= 5", "x=/=5", "x /= 5", "x ~= 5", "x <> 5", "x \u2262 5", "x \u2249 5",
        r"x \neq 5", r"$x \not= 5$", r"x \not\equiv 5", "x =\u0338 5", "\u2260 5", "!= 5", "not x = 5",
        "unequal to 5", "differs from 5", "so x \u2260 5 apples", r"\boxed{x \neq 5}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("reference", ["5", "x = 5"])
def test_what_is_not_equal_to_a_number_does_not_give_it(reference: str, said: str):
    assert [scores(reference, answer) for answer in (said, f"Answer: {said}")] == [None, None]
    assert agreement("Answer: 5", said, "How much?") is agreement("x = 5", f"Answer: {said}", "How much?") is None


def test_a_factorial_before_its_equals_sign_is_read():
    assert scores("120", "5!=120") == 1.0


@pytest.mark.parametrize(
    "said",
    ["x^2 = 5", "2x = 5", "|x| = 5", "x/2 = 5", "1/x = 5", "x + 1 = 5", "x + y = 5", "-x = 5",
     "sqrt(x) = 5", r"\sqrt{x} = 5", "ln x = 5", "log(x) = 5", "x mod 7 = 5", "x! = 5",
     r"\frac{x}{2} = 5", "Therefore we have 3x = 5", "x^2 = 4 + 1 = 5"],
)  # fmt: skip
@pytest.mark.parametrize("reference", ["5", "x = 5"])
def test_an_equation_of_more_than_a_name_does_not_give_the_name_s_value(reference: str, said: str):
    assert [scores(reference, answer) for answer in (said, f"Answer: {said}")] == [None, None]


@pytest.mark.parametrize(
    "said",
    ["x = 5", "Total = 5", "the total cost = 5", "2 + 3 = 5", "x = 2 + 3 = 5", "3x = 15, x = 5", "10 x (1/2) = 5",
     "A = l * w = 5", "2 apples + 3 apples = 5 apples", "2 m + 3 m = 5 m", "P(A) = 5", "dy/dx = 5", "12 mod 7 = 5"],
)  # fmt: skip
def test_an_equation_gives_the_value_of_a_name_or_a_reckoning(said: str):
    assert scores("5", f"Answer: {said}") == 1.0


@pytest.mark.parametrize(
    "said",
    ["5 or more", "5 or less", "5 or fewer", "5 or higher", "5 and above", "5 and up", "5 at most",
     "5 at least", "at least 5", "a minimum of 5", "5 minimum", "5 max", "5, or more", "5 more or less", "5 oder mehr",
     "mindestens 5", "upwards of 5", "$5 or more", "5 or later"],
)  # fmt: skip
def test_a_bound_is_not_its_number(said: str):
    assert [scores("5", answer) for answer in (said, f"Answer: {said}")] == [None, None]
    assert agreement("Answer: 5", f"Answer: {said}", "How much?") is None


FOREIGN = ["A$5", "NZ$5", "HK$5", "C$5", "S$5", "NT$5", "Mex$5", "CN¥5", "x$5", "HK $5", "HKD 5", "$5 AUD", "$ CAD 5"]


@pytest.mark.parametrize("said", [*FOREIGN, *(f"It costs {said}." for said in FOREIGN)])
@pytest.mark.parametrize("reference", ["$5", "US$5", "5 USD", "5 dollars"])
def test_the_letters_before_a_sign_of_money_count(reference: str, said: str):
    for answer in (said, f"Answer: {said}"):
        assert scores(reference, answer) != 1.0
        assert agreement(f"Answer: {reference}", answer, "How much?") is None
    assert scores("$5", said) is None or said[:1] == "x"


@pytest.mark.parametrize(
    "said", ["$5", "US$5", "US $5", "5 USD", "USD 5", "$5 USD", "It costs US$5.", "It costs USD 5."]
)
@pytest.mark.parametrize("reference", ["$5", "US$5", "5 USD", "5"])
def test_dollars_of_one_country_are_the_same(reference: str, said: str):
    assert scores(reference, said) == 1.0


@pytest.mark.parametrize("said", ["HK$5", "5 HKD", "HKD 5", "HK $5", "It costs HK$5."])
def test_another_countrys_dollars_are_read(said: str):
    assert (scores("HK$5", said), scores("A$5", said), scores("5 USD", said)) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(("answer", "asked", "score"), [("12%", "What percentage?", 1.0), ("12%", "How much?", None)])
def test_what_a_bare_number_counts_stands_in_the_question(answer: str, asked: str, score: float | None):
    assert scores("12", answer, asked) == score


@pytest.mark.parametrize(
    "answer",
    [
        "It is 12 or 13.",
        "Maybe 12, maybe 15.",
        "15. Wait, no. 3 of 4 are left, or 12.",
        "The answer is 12. The answer is 13.",
    ],
)
def test_two_that_compete_give_no_label(answer: str):
    assert scores("12", answer) is None


@given(quantities, quantities)
def test_sameness_is_reflexive_and_does_not_contradict_itself_turned_round(one: Quantity, other: Quantity):
    assert same_quantity(one, one)
    assert {same_quantity(one, other), same_quantity(other, one)} != {True, False}


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6))
def test_a_fraction_reads_alike_plain_and_in_latex(over: int, under: int):
    sign = "-" if over < 0 else ""
    for text in (
        f"{over}/{under}",
        rf"\frac{{{over}}}{{{under}}}",
        rf"\boxed{{{sign}\dfrac{{{abs(over)}}}{{{under}}}}}",
    ):
        assert quantity(text).first.value == Fraction(over, under)


@given(st.integers(1, 999_999), st.integers(-30, 30))
def test_powers_of_ten_read_alike(digits: int, power: int):
    value = digits * Fraction(10) ** power
    for text in (
        f"{digits}e{power}",
        rf"{digits} \times 10^{{{power}}}",
        f"{digits} * 10^{power}",
        f"{digits}*10^{power}",
    ):
        assert quantity(text).first.value == value


@given(st.decimals(-(10**9), 10**9, allow_nan=False, places=3), st.sampled_from(["", "$", "€"]), st.booleans())
def test_formatting_around_a_number_is_right_or_not_read(value, currency: str, is_bold: bool):
    plain, shown = f"{value:.3f}", f"{value:,.3f}"
    shown = f"-{currency}{shown[1:]}" if shown.startswith("-") else currency + shown
    shown = f"**{shown}**" if is_bold else shown
    for answer in (shown, f"It is {shown}.", f"\\boxed{{{shown}}}", f"Answer: {shown}"):
        assert scores(plain, answer) in (1.0, None)
    assert same_value(plain, plain)


def test_two_statements_of_one_number_agree():
    assert agreement("Answer: $1,234.50", "#### 1234.5", "How much?") == "final"
