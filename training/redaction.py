"""Redaction: personal data in texts replaced by marks, before a text is stored or written.

Comes in: any text, or the JSON of a request or an answer. Goes out: the same with `[EMAIL]`, `[IBAN]`, `[CARD]`,
`[IP]` and `[PHONE]` in place of what the rules below find, in this order. Rules are versioned: what a rule finds never
changes under one version, so that text redacted twice by one version is the same text.

Rules know data that has a form of its own, and where there is a check digit it must be right. Names, addresses and
dates of birth have none and stay: this lessens what leaks, it does not make a log anonymous.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

RULES_VERSION = 1

MIN_PHONE_DIGITS = 8
MAX_PHONE_DIGITS = 15
"""E.164 allows no more."""


@dataclass(frozen=True)
class Rule:
    """One kind of personal data.

    Attributes:
        mark: what stands in its place.
        pattern: finds candidates; every repetition in it is bounded, so that no text takes long.
        holds: whether a candidate is what it looks like.
    """

    mark: str
    pattern: re.Pattern[str]
    holds: Callable[[str], bool]

    def in_place_of(self, found: re.Match[str]) -> str:
        """Return the mark, or the candidate where it is not what it looks like."""
        return self.mark if self.holds(found[0]) else found[0]


def is_iban(text: str) -> bool:
    """Whether the check digits of an IBAN are right (ISO 13616: mod 97 is 1)."""
    plain = text.replace(" ", "")
    return int("".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])) % 97 == 1


def is_card(text: str) -> bool:
    """Whether the check digit of a card number is right (ISO/IEC 7812: Luhn)."""
    digits = [int(digit) for digit in _digits(text)]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]  # 9 off above 9
    return (sum(digits[::-2]) + sum(doubled)) % 10 == 0 and len(set(digits)) > 1


def is_ip(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address; one without a digit is a word of code (`face::bed`)."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return bool(_digits(text))


def is_phone(text: str) -> bool:
    """Whether there are as many digits as a telephone number has."""
    return MIN_PHONE_DIGITS <= len(_digits(text)) <= MAX_PHONE_DIGITS


def _digits(text: str) -> str:
    return "".join(letter for letter in text if letter.isdecimal())


def _anything(_: str) -> bool:
    return True


_EMAIL = r"(?<![\w.+-])[\w.+-]{1,64}@(?:[^\W_](?:[\w-]{0,62})\.){1,8}[^\W\d_]{2,24}(?![\w-])"
_IBAN = r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)"
_CARD = r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])"
_IP = r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:]))"
_PHONE = (
    r"(?<![\w.+])(?:(?:\+|00)[1-9]\d{0,3}(?:[ ./-]?\(?\d{1,4}\)?){2,5}"
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}[.-]\d{3}[.-]\d{4})(?![\w-])"
)

RULES = (
    Rule("[EMAIL]", re.compile(_EMAIL), _anything),
    Rule("[IBAN]", re.compile(_IBAN), is_iban),
    Rule("[CARD]", re.compile(_CARD, re.ASCII), is_card),
    Rule("[IP]", re.compile(_IP, re.ASCII), is_ip),
    Rule("[PHONE]", re.compile(_PHONE, re.ASCII), is_phone),
)


def redacted(text: str) -> str:
    """Return the text with marks in place of the personal data that the rules find."""
    for rule in RULES:
        text = rule.pattern.sub(rule.in_place_of, text)
    return text


def redacted_json(value: Any) -> Any:
    """Return decoded JSON with every text in it redacted; names of fields stay."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {name: redacted_json(one) for name, one in value.items()}
    return [redacted_json(one) for one in value] if isinstance(value, list) else value
