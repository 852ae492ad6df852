"""Redaction: identifiers become markers, everything else stays, and no text makes it slow."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.serving.router import redaction
from turnout.serving.router.redaction import redact, redact_json


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to jo.doe+news@mail.example.co.uk.", "write to [EMAIL]."),
        ("Grüße an jürgen@müller.example", "Grüße an [EMAIL]"),
        ("from 192.168.1.10 to 10.0.0.1, port 80", "from [IP] to [IP], port 80"),
        ("host 2001:db8::8a2e:370:7334 or ::1", "host [IP] or [IP]"),
        ("IBAN DE89 3704 0044 0532 0130 00 please", "IBAN [IBAN] please"),
        ("GB82WEST12345698765432", "[IBAN]"),
        ("card 4111 1111 1111 1111, or 5500-0000-0000-0004", "card [CARD], or [CARD]"),
        ("378282246310005", "[CARD]"),
        ("call +49 (0)30 1234567", "call [PHONE]"),
        ("0049 30 123456 or 030/1234567 or (030) 1234567", "[PHONE] or [PHONE] or [PHONE]"),
        ("(555) 010-9999, 555-010-9999, 1 555 010 9999", "[PHONE], [PHONE], [PHONE]"),
        ("07911 123456", "[PHONE]"),
    ],
)
def test_identifiers_become_markers(text: str, redacted: str):
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "at 12:30:45 on 2026-11-21",
        "version 1.2.3.4.5 of 300.1.1.1",
        "pi is 3.14159265358979 and e is 2.718",
        "4111 1111 1111 1112 fails the checksum",
        "DE88 3704 1144 5532 1130 55 fails it too",
        "12345678 + 1000000 = 13345678, 1,000,000 and 1 000 000",
        "std::vector<int> a[10]; @decorator x@y",
        "",
    ],
)
def test_other_numbers_and_code_stay(text: str):
    assert redact(text) == text


@given(st.text(alphabet="abAB12 .:@+-()0\n", max_size=200))
def test_lines_stay_lines_and_a_second_time_changes_no_identifier_back(text: str):
    redacted = redact(text)
    assert redacted.count("\n") == text.count("\n")
    assert redacted == "\n".join(map(redact, text.split("\n")))


@given(
    st.sampled_from(["", "+", "(", "00", "(0", "0"]),
    st.lists(
        st.tuples(st.from_regex(r"[0-9]{1,4}", fullmatch=True), st.sampled_from([*" -./", "", ") ", ") - ", "  ("]))
    ),
    st.sampled_from(["", "a", ". ", "-\n"]),
)
def test_quick_look_misses_no_number(begin: str, groups: list[tuple[str, str]], around: str):
    text = around + begin + "".join(digits + separator for digits, separator in groups) + around
    by_every_pattern = redaction._IPV4.sub(redaction._ip, text)
    by_every_pattern = redaction._CARD.sub(redaction._card, by_every_pattern)
    assert redact(text) == redaction._PHONE.sub(redaction._phone, by_every_pattern)


@given(st.text(alphabet="xyz +(\n"), st.from_regex(r"[a-z]{3,10}@[a-z]{3,10}\.[a-z]{2,3}", fullmatch=True))
def test_mail_address_between_blanks_is_found_in_any_text(text: str, address: str):
    assert redact(f"{text} {address} {text}") == f"{text} [EMAIL] {text}"


@pytest.mark.parametrize("unit", ["1 ", "a@", "a", "+1-", "AB12 ", "12.", "ab:", "x@a-", "(0", "1-"])
def test_time_is_linear_in_the_text(unit: str):
    def seconds(n_chars: int) -> float:
        text = unit * (n_chars // len(unit)) + "@"
        times = []
        for _ in range(5):
            started_s = time.thread_time()
            redact(text)
            times.append(time.thread_time() - started_s)
        return min(times)

    assert seconds(80_000) < 24 * seconds(10_000) + 0.01  # linear is 8 times, quadratic 64


def test_every_text_of_a_json_value_is_redacted_and_nothing_else():
    value = {"mail": ["write to ann@example.org", 7, None], "ann@example.org": {"deep": "+49 30 1234567"}}
    assert redact_json(value) == {"mail": ["write to [EMAIL]", 7, None], "ann@example.org": {"deep": "[PHONE]"}}
