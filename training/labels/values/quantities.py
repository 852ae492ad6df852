"""Quantities: numbers with what stands around them: sign, currency, unit, magnitude, several parts.

Comes in: the text of a value. Goes out: `Quantity`, all that it may mean; None for what is no quantity or is not
understood to its last character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from turnout.training.labels.values.clean import MAX_CHARS, cleaned
from turnout.training.labels.values.digits import PATTERN, decimals, readings
from turnout.training.labels.values.formulas import formula
from turnout.training.labels.values.units import (
    DECADE,
    MAGNITUDE,
    MONEY,
    PLAIN,
    WORD,
    Unit,
    money,
    units_of,
)


@dataclass(frozen=True, slots=True)
class Alternative:
    """One meaning: a value (a float where it is irrational) with its unit."""

    value: Fraction | float
    unit: Unit = PLAIN

    @property
    def base(self) -> Fraction | float:
        """The value in the base unit of its dimension."""
        return self.value * self.unit.factor + self.unit.offset


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a text may mean, the likeliest first.

    Attributes:
        alternatives: at least one.
        decimals: digits behind the decimal mark as written; -1 where it was no decimal number.
        is_rough: whether the text says that it is not exact ("about 12").
    """

    alternatives: tuple[Alternative, ...]
    decimals: int = -1
    is_rough: bool = False

    @property
    def first(self) -> Alternative:
        """The likeliest meaning."""
        return self.alternatives[0]


_CURRENCY = (
    r"(?:(?:US|CA|AU|HK|NZ|SG|NT|MX|Mex|[ACRS])\$|[$€£¥₹₩₽]|\\\$"
    r"|(?:USD|EUR|GBP|JPY|INR|CHF|CAD|AUD|HKD|NZD|SGD|TWD|MXN|CNY|Rs)\.?)"
)
_ROUGH = re.compile(
    r"^(?:approximately|approx\.?|about|around|roughly|nearly|almost|circa|ca\.|c\.|etwa|rund|ungefähr|environ|unos|unas"
    r"|aproximadamente|cerca de|約|约|~|≈|\\approx|\\sim)\s*", re.IGNORECASE)  # fmt: skip
_EXACT = re.compile(
    r"^(?:exactly|precisely|genau|exactement|just|only|a total of|total of|equal to|equals|=|the number|an? )\s*",
    re.IGNORECASE,
)
_NAME = re.compile(r"^(?:\\?[A-Za-zαβγθλμ](?:_\{?\w+\}?)?|[A-Za-z]\([A-Za-z]\)|[a-z]{2,12})\s*=\s*(?==?)")  # noqa: RUF001
_ASSIGNED = re.compile(r"^(?:[A-Za-zαβγθλμ](?:_\{?\w{1,5}\}?)?)\s*=\s*(?=[^=])")  # noqa: RUF001
_MINUS_WORD = re.compile(r"^(?:minus|negative|moins|menos|meno)\s+", re.IGNORECASE)
_PLUS_WORD = re.compile(r"^(?:plus|positive)\s+(?=[\d.])", re.IGNORECASE)
_SIMPLE = re.compile(
    rf"(?P<sign>[-+]?)\s?(?P<money>{_CURRENCY})?\s?(?P<sign2>[-+]?)(?P<digits>{PATTERN})(?P<rest>.*)", re.DOTALL
)
_REST_IS_UNIT = re.compile(
    r"\s*-?\s*(?:%|‰|¢|[€£¥₹$₩₽]|(?:°|º|˚|℃|℉|\^\s*\{?\s*\\?circ\}?)\s?[A-Za-z]{0,10}|[^\W\d_]+(?:/[^\W\d_]+)?(?:\s?\^?\(?[23]\)?)?(?:[ -][^\W\d_]+){0,3}\$?)\.?\s*"  # noqa: E501
)
_EXPONENT = re.compile(r"[eE][-+]?\d{1,3}")
_PART = re.compile(
    rf"(?P<digits>{PATTERN})\s*-?\s*(?P<unit>[^\W\d_]+|['\"′″]{{1,2}})\.?(?:\s*(?:,|and|und|et|y|e|&|\+)?\s*)",  # noqa: RUF001
    re.IGNORECASE,
)
_ACCOUNT = re.compile(r"(?P<over>\d{1,6})\s*(?:/|⁄|out of|von|sur)\s*(?P<under>\d{1,6})")  # noqa: RUF001
_QUOTE_UNITS = {"'": "ft", "′": "ft", '"': "in", "″": "in", "''": "in"}  # noqa: RUF001
_GERMAN_CLOCK = re.compile(r"\d{1,2}:\d{2}(?::\d{2})?")
_COMPOUND_DIMENSIONS = {"time", "calendar", "length", "mass", "volume", MONEY + ":usd", MONEY + ":eur", MONEY + ":gbp"}


def quantity(text: str, *, decimal_comma: bool = False) -> Quantity | None:
    """Return the quantity that the whole text is; None when it is none, or not understood to the end."""
    return None if len(text) > MAX_CHARS else _quantity(cleaned(text), decimal_comma)


@lru_cache(maxsize=8192)
def _quantity(text: str, decimal_comma: bool) -> Quantity | None:  # cached, by place
    if not text or len(text) > MAX_CHARS:
        return None
    is_rough = False
    if found := _ROUGH.match(text):
        text, is_rough = text[found.end() :], True
    text = _ASSIGNED.sub("", _EXACT.sub("", text)).strip()
    if not text:
        return None
    if (bracketed := _BRACKETED.fullmatch(text)) and (inner := _quantity(bracketed[1], decimal_comma)):
        negated = tuple(Alternative(-one.value, one.unit) for one in inner.alternatives)
        return Quantity((*inner.alternatives, *negated), inner.decimals, inner.is_rough or is_rough)
    made = _simple(text, decimal_comma=decimal_comma) or _compound(text) or _of_formula(text) or _of_words(text)
    if made is None:
        return None
    return Quantity(made.alternatives, made.decimals, is_rough or made.is_rough)


_BRACKETED = re.compile(r"\(([^(),;]+)\)")
"""A number in round brackets: itself, or in accounts a negative one."""


def _simple(text: str, *, decimal_comma: bool) -> Quantity | None:
    minus = _MINUS_WORD.match(text)
    text = _PLUS_WORD.sub("", text[minus.end() :] if minus else text)
    found = _SIMPLE.fullmatch(text)
    if not found or (found["sign"] and found["sign2"]):
        return None
    is_negative = (minus is not None) ^ ("-" in (found["sign"] + found["sign2"]))
    digits, rest = found["digits"].rstrip(".,'_"), found["rest"]
    trailing = found["digits"][len(digits) :]
    if (trailing and rest.strip()) or "'" in trailing:  # 5' is five feet, or five minutes of arc
        return None
    if rest == "s" and _DECADE.fullmatch(digits):
        return Quantity((Alternative(Fraction(digits), Unit(DECADE, Fraction(1), "s")),))
    values, rest = _powered(readings(digits, decimal_comma=decimal_comma), rest)
    units = _units(rest, money(found["money"].replace("\\", "").rstrip(".")) if found["money"] else None)
    if not values or not units:
        return None
    sign = -1 if is_negative else 1
    return Quantity(tuple(Alternative(sign * value, unit) for unit in units for value in values), decimals(digits))


def _powered(values: tuple[Fraction, ...], rest: str) -> tuple[tuple[Fraction, ...], str]:
    """Return the values with the power of ten behind them, as `e3`, and what follows it."""
    if not (power := _EXPONENT.match(rest)):
        return values, rest
    return tuple(value * Fraction(10) ** int(power[0][1:]) for value in values), rest[power.end() :]


def _units(rest: str, currency: Unit | None) -> tuple[Unit, ...]:
    rest = rest.strip()
    if not rest:
        return (currency or PLAIN,)
    if not _REST_IS_UNIT.fullmatch(rest):
        return ()
    rest = rest.removeprefix("-").strip()
    return units_of(rest) if currency is None else _of_money(rest, currency)


def _of_money(rest: str, currency: Unit) -> tuple[Unit, ...]:
    """Return the unit of an amount with a currency before it and more behind: "$5 million", "$5 each", "$5 USD"."""
    if (amount := _AMOUNTS.get(rest.casefold())) is not None:
        return (currency._replace(factor=currency.factor * amount),)
    found = units_of(rest)
    scaled = [unit for unit in found if unit.dimension == MAGNITUDE]
    if scaled:
        return tuple(currency._replace(factor=currency.factor * unit.factor) for unit in scaled)
    same = [unit for unit in found if unit.dimension == currency.dimension]
    if same:
        return (currency,) if same[0].factor == 1 else ()
    if not found or found[0].dimension != WORD:
        return ()
    return (currency._replace(factor=currency.factor * found[0].factor, beside=found[0].word),)


_DECADE = re.compile(r"[12]\d\d0")
_AMOUNTS = {"k": 1000, "m": 10**6, "mm": 10**6, "b": 10**9, "bn": 10**9, "t": 10**12, "tn": 10**12}
"""What a letter behind an amount of money is: `$2m` is no length."""


def _compound(text: str) -> Quantity | None:
    """Read several parts of one dimension: `1 h 30 min`, `5'11"`, `2 kg 300 g`."""
    negative = text.startswith("-")
    text = text.removeprefix("-").strip()
    place, total, dimension, last = 0, Fraction(0), "", None
    for count in range(8):
        part = _PART.match(text, place)
        if part is None:
            return None
        values, units = readings(part["digits"]), units_of(_QUOTE_UNITS.get(part["unit"], part["unit"]))
        if len(values) != 1 or not units:
            return None
        unit = next((one for one in units if one.dimension == dimension), units[0])
        if unit.dimension not in _COMPOUND_DIMENSIONS or (dimension and unit.dimension != dimension):
            return None
        if last is not None and unit.factor >= last:
            return None
        total, dimension, last, place = total + values[0] * unit.factor, unit.dimension, unit.factor, part.end()
        if place == len(text) and count:
            base = Unit(dimension, Fraction(1), dimension)
            return Quantity((Alternative(-total if negative else total, base),))
    return None


_RANGE_LIKE = re.compile(r"[\d.,]+\s*-\s*[\d.,]+[^+*/^()]*")
"""`10-20` is a range as likely as a difference."""


def _of_formula(text: str) -> Quantity | None:
    if _RANGE_LIKE.fullmatch(text):
        return None
    unit, body = PLAIN, text
    if currency := re.match(rf"(-?)({_CURRENCY})\s*(?=[\d\\(√.])", text):
        unit, body = money(currency[2].replace("\\", "").rstrip(".")) or PLAIN, currency[1] + text[currency.end() :]
    made = formula(body)
    if made is None:
        split = re.fullmatch(r"(.*[\d)}\]!π])\s*(%|°|[^\W\d_]{2,}(?:[ /]?[^\W\d_]+){0,2}[²³]?)", body, re.DOTALL)
        made = formula(split[1]) if split else None
        units = units_of(split[2]) if split else ()
        if made is None or len(units) != 1:
            return None
        if unit is not PLAIN and units[0].dimension.startswith(MONEY) and units[0].dimension != unit.dimension:
            return None  # "$5 AUD"
        unit = units[0] if unit is PLAIN else unit
    value = made.exact if made.exact is not None else made.real
    return None if value is None else Quantity((Alternative(value, unit),))


_LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl")
_NOT_LETTERS = re.compile(r"[\d=<>(){}\[\]\\/*^+]")
_SMALL = {"half": "1/2", "a half": "1/2", "one half": "1/2", "one-half": "1/2", "a quarter": "1/4", "one quarter": "1/4", "one-quarter": "1/4",  # noqa: E501
          "three quarters": "3/4", "three-quarters": "3/4", "a third": "1/3", "one third": "1/3", "one-third": "1/3", "two thirds": "2/3",  # noqa: E501
          "two-thirds": "2/3", "a dozen": "12", "half a dozen": "6", "a hundred": "100", "a thousand": "1000", "a million": "1000000",  # noqa: E501
          "nil": "0", "null": "0", "zero": "0"}  # fmt: skip


def _of_words(text: str) -> Quantity | None:
    """Read a number in words of seven languages, with the unit behind it."""
    if _NOT_LETTERS.search(text) or len(text) > 80 or len(text.split()) > 12:
        return None
    negative = False
    if found := _MINUS_WORD.match(text):
        negative, text = True, text[found.end() :]
    words = text.casefold().split()
    for end in range(len(words), max(0, len(words) - 3), -1):
        value = word_number(" ".join(words[:end]))
        if value is not None:
            units = units_of(" ".join(words[end:]))
            unit = units[0] if units else None
            return unit and Quantity((Alternative(-value if negative else value, unit),))
    return None


_OTHER_WORDS = frozenset(["once", "cent", "mil", "sei", "sept", "elf", "set", "nova", "un", "une", "uno", "uma"])
"""Numbers of one language that are other words, or articles, in another."""


@lru_cache(maxsize=4096)
def word_number(text: str) -> Fraction | None:
    """Return the number that words say; None where they say none, or something else in another language."""
    if text in _SMALL:
        return Fraction(_SMALL[text])
    if text in _OTHER_WORDS:
        return None
    if not text or not text.replace("-", "").replace(" ", "").isalpha():
        return None
    from text_to_num import text2num  # type: ignore[import-untyped]  # noqa: PLC0415  # 12 ms, for answers in words only

    said = set[Fraction]()
    for language in _LANGUAGES:
        try:
            said.add(Fraction(text2num(text, language)))
        except (ValueError, KeyError, IndexError, AttributeError):
            continue
    return said.pop() if len(said) == 1 else None
