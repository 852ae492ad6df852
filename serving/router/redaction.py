"""Redaction: personal identifiers in a text become markers such as `[EMAIL]`, by rules with a version.

Text in, text out; used by the decision log and by training, so that both see the same words.

| marker | what is taken for one |
| --- | --- |
| `[EMAIL]` | `name@host.tld`, with letters and digits of any script |
| `[IP]` | four numbers of 0 to 255; what `ipaddress` accepts as IPv6 |
| `[IBAN]` | 15 to 34 letters and digits, in one or in groups of four, with a valid checksum (ISO 7064, mod 97) |
| `[CARD]` | 13 to 19 digits, in one or parted by blanks or hyphens, with a valid checksum (Luhn) |
| `[PHONE]` | `+` or `00` and 7 to 15 digits; a leading `0` or `(0` and groups; `(555) 010-9999` and its like |

Rules find forms, not persons: names, addresses, account numbers of other forms, and identifiers that a line break
cuts are left. A redacted text is less personal, not anonymous.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

RULES_VERSION = 1
"""Raised whenever a change here would redact any text differently."""

# Every repetition is bounded, so that time stays linear in the text. Patterns begin with a class of characters and look
# behind only after its first one: `re` then skips to the next candidate, in a quarter of the time.
_EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_][\w-]{0,61}\w")
_IPV4 = re.compile(r"[0-9](?<![\w.].)\d{0,2}(?:\.\d{1,3}){3}(?![\w]|\.\d)", re.ASCII)
_IPV6 = re.compile(r"[\da-fA-F:](?<![\w:.].)[\da-fA-F:]{1,38}(?![\w:])", re.ASCII)
_IBAN_LIKE = re.compile(r"\d\d(?<=\b[A-Za-z]{2}..)", re.ASCII)
_IBAN = re.compile(r"\b[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,3})?\b", re.ASCII)
_CARD = re.compile(r"[0-9](?<![\w.-].)(?:[ -]?\d){12,18}(?![\w]|[.-]\d)", re.ASCII)
_PHONE = re.compile(
    r"[+(0-9](?<![\w.,+-].)(?:"
    r"(?:(?<=\+)|(?<=0)0)[1-9](?:[ ./()-]{0,3}\d){6,14}"
    r"|(?:(?<=0)|(?<=\()0)\d{1,5}\)?(?:[ ./-]{1,3}\d{2,8}){1,4}"
    r"|(?:(?<=1)[ .-]?(?:\(\d{3}\) ?|\d{3}[ .-])|(?<=\()\d{3}\) ?|(?<=\d)\d{2}[ .-])\d{3}[ .-]\d{4}"
    r")(?![\w]|[.,]\d)",
    re.ASCII,
)
_MIN_PHONE_DIGITS = 7
_NUMBER_LIKE = re.compile(r"[0-9](?:\W{0,4}[0-9]){6}", re.ASCII)
"""What every card and phone number has: seven digits with no letter between. One look spares prose the two patterns."""


def redact(text: str) -> str:
    """Return the text with what the rules take for an identifier replaced by its marker; lines stay lines."""
    if "@" in text:
        text = _EMAIL.sub("[EMAIL]", text)
    if text.count(":") > 1:
        text = _IPV6.sub(_ip, text)
    if text.count(".") > 2:
        text = _IPV4.sub(_ip, text)
    if _IBAN_LIKE.search(text):
        text = _IBAN.sub(_iban, text)
    if _NUMBER_LIKE.search(text):
        text = _PHONE.sub(_phone, _CARD.sub(_card, text))
    return text


def redact_json(value: Any) -> Any:
    """Return decoded JSON with every text in it redacted; names of fields stay."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: redact_json(one) for name, one in value.items()}
    return [redact_json(one) for one in value] if isinstance(value, list) else value


def _ip(found: re.Match[str]) -> str:
    try:
        ipaddress.ip_address(found[0])
    except ValueError:
        return found[0]
    return "[IP]"


def _iban(found: re.Match[str]) -> str:
    """Replace the longest beginning of the match, cut between groups, whose checksum holds; keep what follows."""
    matched, end = found[0], len(found[0])
    while end > 0:
        if _is_iban(matched[:end]):
            return "[IBAN]" + matched[end:]
        end = max(matched.rfind(" ", 0, end), matched.rfind("-", 0, end))
    return matched


def _is_iban(text: str) -> bool:
    compact = text.replace(" ", "").replace("-", "").upper()
    if not 15 <= len(compact) <= 34:
        return False
    moved = compact[4:] + compact[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def _card(found: re.Match[str]) -> str:
    digits = [int(character) for character in found[0] if character.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return "[CARD]" if (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0 else found[0]


def _phone(found: re.Match[str]) -> str:
    n_digits = sum(character.isdigit() for character in found[0])
    return "[PHONE]" if n_digits >= _MIN_PHONE_DIGITS else found[0]
