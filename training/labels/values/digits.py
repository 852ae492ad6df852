"""Digits: the values that a run of digits and separators may stand for.

Comes in: text such as `1.234,5`. Goes out: its readings, the likeliest first; one where the text leaves no doubt,
two for `1,234` (a thousand in English, one and a bit in German), none where it is no number.
"""

from __future__ import annotations

import re
from fractions import Fraction

MAX_DIGITS = 60
"""A longer run is an identifier, not a count; it also bounds the cost of arithmetic."""
PATTERN = r"(?:\d[\d.,'_]*(?: \d{3}(?!\d)[\d.,]*)*|[.,]\d+)"
_PLAIN = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_SPACED = re.compile(r"\d{1,3}(?:([ '_])\d{3})(?:\1\d{3})*(?:[.,]\d+)?")
_LIKE_CODE = re.compile(r"\d+(?:_\d+)*(?:\.\d+)?")
_WESTERN, _INDIAN = r"\d{1,3}(?:{0}\d{{3}})+", r"\d{1,2}(?:,\d{2})+,\d{3}"
_COMMAS = re.compile(rf"(?:{_WESTERN.replace('{0}', ',').replace('{{', '{').replace('}}', '}')}|{_INDIAN})")
_DOTS = re.compile(_WESTERN.replace("{0}", r"\.").replace("{{", "{").replace("}}", "}"))


def readings(text: str, *, decimal_comma: bool = False) -> tuple[Fraction, ...]:
    """Return what the digits may say, the likeliest first; empty for no number.

    Args:
        text: digits with `.`, `,`, `'`, `_` or spaces between them, no sign.
        decimal_comma: whether the language around writes decimals with a comma: turns the order of two readings.
    """
    if len(text) > MAX_DIGITS:
        return ()
    if _PLAIN.fullmatch(text):
        return _with_dot(text, decimal_comma=decimal_comma)
    if _SPACED.fullmatch(text) or ("_" in text and _LIKE_CODE.fullmatch(text)):
        return _split(re.sub("[ '_]", "", text), decimal_comma=decimal_comma, is_grouped=True)
    if any(mark in text for mark in " '_"):
        return ()
    return _split(text.rstrip(".,"), decimal_comma=decimal_comma, is_grouped=False)


def decimals(text: str) -> int:
    """Return how many digits stand behind the decimal mark as read first; 0 for none."""
    mark = max(text.rfind("."), text.rfind(","))
    tail = text[mark + 1 :] if mark >= 0 else ""
    return len(tail) if tail.isdecimal() and not _COMMAS.fullmatch(text) else 0


def _with_dot(text: str, *, decimal_comma: bool) -> tuple[Fraction, ...]:
    value = Fraction(int(text)) if text.isdecimal() else Fraction(text)
    if not _DOTS.fullmatch(text) or text.startswith("0"):
        return (value,)
    grouped = Fraction(text.replace(".", ""))
    return (grouped, value) if decimal_comma else (value, grouped)


def _split(text: str, *, decimal_comma: bool, is_grouped: bool) -> tuple[Fraction, ...]:
    """Read digits with dots or commas; `is_grouped` when thousands were told apart already, so that a mark is decimal."""  # noqa: E501
    n_dots, n_commas = text.count("."), text.count(",")
    if not text.replace(".", "").replace(",", "").isdecimal():
        return ()
    if not n_dots and not n_commas:
        return (Fraction(text),)
    if is_grouped:
        return (Fraction(text.replace(",", ".")),) if n_dots + n_commas == 1 else ()
    if n_dots and n_commas:
        return _both(text)
    return _of_one_kind(text, decimal_comma=decimal_comma)


def _of_one_kind(text: str, *, decimal_comma: bool) -> tuple[Fraction, ...]:
    """Read digits with dots or commas alone."""
    n_dots, n_commas = text.count("."), text.count(",")
    if n_commas == 1:
        return _with_comma(text, decimal_comma=decimal_comma)
    if n_dots == 1:
        return _with_dot(text, decimal_comma=decimal_comma) if _PLAIN.fullmatch(text) else ()
    pattern, mark = (_COMMAS, ",") if n_commas else (_DOTS, ".")
    return (Fraction(text.replace(mark, "")),) if pattern.fullmatch(text) else ()


def _with_comma(text: str, *, decimal_comma: bool) -> tuple[Fraction, ...]:
    value = Fraction(("0" if text.startswith(",") else "") + text.replace(",", "."))
    if not _COMMAS.fullmatch(text) or text.startswith("0"):
        return (value,)
    grouped = Fraction(text.replace(",", ""))
    return (value, grouped) if decimal_comma else (grouped, value)


def _both(text: str) -> tuple[Fraction, ...]:
    decimal = "." if text.rfind(".") > text.rfind(",") else ","
    whole, _, tail = text.rpartition(decimal)
    pattern = _COMMAS if decimal == "." else _DOTS
    group = "," if decimal == "." else "."
    return (Fraction(f"{whole.replace(group, '')}.{tail}"),) if tail and pattern.fullmatch(whole) else ()
