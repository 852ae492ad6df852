"""Numbers: the final number of an answer, exactly, however it is written.

Comes in: a reference or an answer. Goes out: `Number`, an exact fraction with its unit. Read are separators, units,
currency signs, percents, fractions (plain and LaTeX, mixed too), powers of ten, and magnitude words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from turnout.training.labels.texts import is_short, stated_answer
from turnout.training.labels.units import MAGNITUDE, PERCENT, PLAIN, UNITS, Unit, unit_of

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_SIGN = r"[-+\u2212]?\s?[$€£¥]?\s?"
_POWER = (
    r"(?:[eE][-+]?\d{1,3}(?!\d)|\s*(?:\\times|\\cdot|[\u00d7\u00b7x*])\s*10\s*\^\s*\{?\s*[-\u2212]?\s*\d{1,3}\s*\}?)"
)
_LATEX = r"\\[dt]?frac\s*\{\s*-?\d+\s*\}\s*\{\s*\d+\s*\}"
_NUMBER = (
    rf"{_SIGN}(?:(?:\d+\s*)?{_LATEX}|(?:\d+\s+)?\d+\s*/\s*\d+(?![\d.])|{_DIGITS}\s*/\s*\d+(?![\d.])|{_DIGITS}{_POWER}?)"
)
_ANY = re.compile(rf"(?<![\w.])({_NUMBER})(\s*(?:\\?%|[^\W\d_]+))?")
_UNIT = r"(\s*(?:%|\\%|°|\^?\\circ|[$€£¥]|[^\W\d_]+(?:\s[^\W\d_]+)?))?"
_WHOLE = re.compile(rf"(?:[A-Za-z]\w?\s*=\s*)?({_NUMBER}){_UNIT}\s*\.?")
_OPERAND = re.compile(r"(?:[\^_\u221a]|\\sqrt)\s*\{?\s*$")
"""Stands before a number that is part of a formula: 3 is the value neither of 2\\sqrt{3} nor of 10^3 or cm^3."""
_NOT = re.compile(r"\b(?:not|rather than|instead of)\b.*", re.DOTALL)
_GROUPED = re.compile(r"(?<=\d)(?:,|\\!|\{,\})+(?=\d{3}(?!\d))")
_TEXT = re.compile(r"\\(?:text|mathrm|mbox|textbf|mathbf)\s*\{([^{}]*)\}")
_SPACES = re.compile(r"\\[,;: ]|~")
_MIXED = re.compile(rf"(\d+)\s*(?={_LATEX})|(\d+)\s+(?=\d+\s*/)")
_LATEX_PARTS = re.compile(r"\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_POWER_PARTS = re.compile(r"(.*?)(?:[eE]|(?:\\times|\\cdot|[\u00d7\u00b7x*])10\^\{?)([-+]?\d+)\}?")
_NOISE = re.compile(r"[\s,+$€£¥]")
_MAYBE_NUMBER = re.compile(
    r"\d|\\|[\u00b2\u00b3\u00b9\u00bc-\u00be]|\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
    r"|\w+teen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|half|third|quarter|dozen)",
    re.IGNORECASE,
)
ROUNDED_DECIMALS = 2
"""A gold number with at least as many decimals is taken as rounded: 33.33 is what 100/3 comes to."""


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value with its unit, and how many decimals it was written with.

    `is_operand` says that it stands inside a formula, whose value is another.
    """

    value: Fraction
    unit: Unit = PLAIN
    decimals: int = 0
    is_operand: bool = False


def is_same(one: Number, other: Number) -> bool:
    """Whether two numbers say the same; symmetric.

    Units of one dimension are converted; of a unit against none, the values count. `12 %` is both 12 and 0.12,
    and `3 million` both 3 and 3,000,000: which of them is meant stands in the question.
    """
    if one.unit.dimension == other.unit.dimension:
        return one.value * one.unit.factor == other.value * other.unit.factor
    return bool(_readings(one) & _readings(other))


def is_right(found: Number, gold: Number) -> bool:
    """Whether an answer's number is the gold one, or comes to it when rounded as the gold one is."""
    if is_same(found, gold):
        return True
    rounded = Number(round(found.value, gold.decimals), found.unit)
    return gold.decimals >= ROUNDED_DECIMALS and found.decimals != gold.decimals and is_same(rounded, gold)


def gold_number(reference: str) -> Number | None:
    """Return the number that a reference is: alone, with a unit, or after a worked solution's `####`."""
    return _whole(stated_answer(reference) if "####" in reference else reference)


def final_number(answer: str) -> Number | None:
    """Return the number of the stated answer, "24, not 42" being 24; without one, the last number of the text."""
    stated = stated_answer(answer)
    if stated is None:
        return _last(answer)
    return _whole(stated) or _last(_NOT.sub("", stated)) or _last(stated)


def stated_number(answer: str) -> Number | None:
    """Return the number that the answer states or is; no guess from running text."""
    stated = stated_answer(answer)
    return _whole(answer if stated is None and is_short(answer) else stated)


def states_no_number(answer: str) -> bool:
    """Whether the answer states something that is no number: "infinity", "none"; not number words, nor formulas."""
    stated = stated_answer(answer)
    return stated is not None and bool(stated.strip()) and not _MAYBE_NUMBER.search(stated)


def _readings(number: Number) -> set[Fraction]:
    scaled = number.unit.dimension in {PERCENT, MAGNITUDE}
    return {number.value, number.value * number.unit.factor} if scaled else {number.value}


def _whole(text: str | None) -> Number | None:
    if text is None:
        return None
    found = _WHOLE.fullmatch(_plain(text))
    return _number(found[1], found[2] or "") if found else None


def _last(text: str) -> Number | None:
    plain = _plain(text)
    *_, found = (None, *_ANY.finditer(plain))
    number = None if found is None else _number(found[1], found[2] or "")
    if found is None or number is None or not _OPERAND.search(plain, 0, found.start()):
        return number
    return replace(number, is_operand=True)


def _plain(text: str) -> str:
    text = _GROUPED.sub("", text).replace("\\$", "$").replace("**", "")
    if "\\" in text or "~" in text:
        text = _SPACES.sub(" ", _TEXT.sub(r" \1", text))
    text = text.strip(" \t\n*`")
    # A dollar at both ends is mathematics; at one end it is money.
    return text.strip("$ ") if text.endswith("$") and text.startswith("$") else text


def _number(digits: str, unit: str) -> Number | None:
    try:
        value = _value(digits.replace("\u2212", "-"))
    except (ValueError, ZeroDivisionError):
        return None
    decimals = digits.rpartition(".")[2] if "." in digits else ""
    dollars = UNITS["dollar"] if "$" in digits and unit_of(unit) is PLAIN else unit_of(unit)
    return Number(value, dollars, len(decimals) if decimals.isdecimal() else 0)


def _value(digits: str) -> Fraction:
    negative, digits = digits.lstrip().startswith("-"), digits.lstrip().removeprefix("-")
    whole = Fraction(0)
    if mixed := _MIXED.search(digits):
        whole, digits = Fraction(mixed[1] or mixed[2]), digits[mixed.end() :]
    if latex := _LATEX_PARTS.search(digits):
        value = Fraction(int(latex[1]), int(latex[2]))
    else:
        plain = _NOISE.sub("", digits)
        power = _POWER_PARTS.fullmatch(plain)
        value = Fraction(power[1]) * Fraction(10) ** int(power[2]) if power else _ratio(plain)
    return -(whole + value) if negative else whole + value


def _ratio(text: str) -> Fraction:
    if text.isdecimal():
        return Fraction(int(text))  # five times as fast as through a string
    over, _, under = text.partition("/")
    return Fraction(over) / Fraction(under) if under else Fraction(over)
