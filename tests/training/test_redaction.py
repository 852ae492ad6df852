"""Personal data that has a form of its own is replaced; everything else stays as it is."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.redaction import RULES, is_card, is_iban, redacted, redacted_json

FOUND = [
    ("Write to ann.lee+news@mail.example.org, please.", "Write to [EMAIL], please."),
    ("<bob@example.com>", "<[EMAIL]>"),
    ("Pay DE89 3704 0044 0532 0130 00 today", "Pay [IBAN] today"),
    ("GB29NWBK60161331926819.", "[IBAN]."),
    ("Card 4111 1111 1111 1111, thanks", "Card [CARD], thanks"),
    ("378282246310005", "[CARD]"),
    ("from 192.168.0.12 to 10.0.0.1:8080", "from [IP] to [IP]:8080"),
    ("at fe80::1ff:fe23:4567:890a.", "at [IP]."),
    ("Call +49 30 901820 or (555) 123-4567", "Call [PHONE] or [PHONE]"),
    ("0044 20 7946 0018", "[PHONE]"),
    ("555-123-4567", "[PHONE]"),
]
KEPT = [
    "3.14159 + 2 = 5.14159",
    "version 1.2.3, at 12:30:45 on 2024-05-01",
    "std::vector<int> face::bed",
    "DE88370400440532013000",
    "4111 1111 1111 1112",
    "0000 0000 0000 0000",
    "300.1.2.3",
    "12345678901234567890123",
    "+1 is more than -1",
    "@decorator a@b",
    "ID 20240501123456",
]


@pytest.mark.parametrize(("text", "expected"), FOUND)
def test_what_has_a_form_of_its_own_is_replaced(text: str, expected: str):
    assert redacted(text) == expected


@pytest.mark.parametrize("text", KEPT)
def test_what_only_looks_alike_stays(text: str):
    assert redacted(text) == text


PIECES = st.one_of(st.sampled_from([text for text, _ in FOUND]), st.text(max_size=12))


@given(st.lists(PIECES, max_size=4).map(" ".join))
def test_redacting_twice_is_redacting_once(text: str):
    once = redacted(text)
    assert redacted(once) == once


@given(st.text(alphabet=st.characters(exclude_characters="@", exclude_categories=["Nd", "Cs"])))
def test_text_without_digits_and_at_signs_stays(text: str):
    assert redacted(text) == text


@given(st.integers(10**11, 10**17))
def test_numbers_are_cards_only_with_the_right_check_digit(number: int):
    assert sum(is_card(f"{number}{digit}") for digit in range(10)) <= 1
    (right,) = [digit for digit in range(10) if is_card(f"{number}{digit}")] or [None]
    assert right is None or redacted(f"no. {number}{right}!") == "no. [CARD]!"


@given(st.text("ABCXYZ0123456789", min_size=12, max_size=24), st.sampled_from(["DE", "FR", "NO"]))
def test_ibans_have_one_right_check_number_and_it_is_replaced(account: str, country: str):
    right = [f"{country}{check:02}{account}" for check in range(2, 99) if is_iban(f"{country}{check:02}{account}")]
    assert len(right) == 1
    assert redacted(f"IBAN {right[0]}.") == "IBAN [IBAN]."


def test_every_text_of_a_request_is_redacted_and_names_of_fields_stay():
    row = {"a@b.example": [{"content": "a@b.example", "n": 4111111111111111}, None], "score": 0.5}
    assert redacted_json(row) == {"a@b.example": [{"content": "[EMAIL]", "n": 4111111111111111}, None], "score": 0.5}


@pytest.mark.parametrize("piece", ["a.", "1 ", "1:", "+1 ", "00 1", "a@b", "DE12 ", "(1)", "1-"])
def test_no_text_takes_long(piece: str):
    started = time.process_time()
    redacted(piece * (200_000 // len(piece)))
    assert time.process_time() - started < 5


def test_marks_are_all_different_and_no_rule_finds_them():
    marks = [rule.mark for rule in RULES]
    assert len(set(marks)) == len(marks)
    assert all(re.fullmatch(r"\[[A-Z]+\]", mark) and redacted(mark) == mark for mark in marks)
