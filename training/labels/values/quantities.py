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
    ERA,
    MAGNITUDE,
    MONEY,
    ORDINAL,
    PERCENT,
    PLAIN,
    RATIOS,
    WORD,
    Unit,
    money,
    pint_factor,
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


_CURRENCY = r"(?:US\$|CA\$|AU\$|R\$|[$€£¥₹₩₽]|\\\$|(?:USD|EUR|GBP|JPY|INR|CHF|CAD|AUD|Rs)\.?)"
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


CLOSE = 1e-9
NEAR = 0.03
"""Within this share, two quantities in different units may be one, rounded on the way."""


def same(one: Alternative, other: Alternative, prompt: str = "") -> bool | None:
    """Whether two meanings are the same quantity; None where it can't be told."""
    mine, yours = one.unit, other.unit
    if mine.dimension == yours.dimension:
        return _of_one_dimension(one, other)
    if PLAIN in (mine, yours):
        return _against_bare(one, other, prompt)
    dimensions = {mine.dimension, yours.dimension}
    if WORD in dimensions:
        return _by_pint(one, other)
    if dimensions & {PERCENT, MAGNITUDE, "degrees"}:
        return None
    if dimensions == {"time", "calendar"}:
        return None if _near(_days(one), _days(other), NEAR) else False
    is_money = mine.dimension.startswith(MONEY) and yours.dimension.startswith(MONEY)
    return None if is_money and not _equal(one.value, other.value) else False


def _of_one_dimension(one: Alternative, other: Alternative) -> bool | None:
    mine, yours = one.unit, other.unit
    if mine.dimension == WORD:
        return _equal(one.base, other.base) if mine.word == yours.word else _by_pint(one, other)
    if _equal(one.base, other.base):
        return None if mine.beside and yours.beside and mine.beside != yours.beside else True
    is_rounded = mine.factor != yours.factor and _near(one.base, other.base, NEAR)
    return None if is_rounded else False


def _days(one: Alternative) -> float:
    return float(one.base) / 86400 if one.unit.dimension == "time" else float(one.base) * 365.25 / 12


def _against_bare(one: Alternative, other: Alternative, prompt: str) -> bool | None:
    """Compare a quantity with a bare number: the unit may have been understood, or have been asked for otherwise."""
    bare, full = (one, other) if one.unit == PLAIN else (other, one)
    dimension = full.unit.dimension
    kind = MONEY if dimension.startswith(MONEY) else dimension
    return _AGAINST_BARE.get(kind, _bare_measure)(bare.value, full, prompt)


def _bare_percent(bare: Fraction | float, full: Alternative, prompt: str) -> bool | None:
    if _equal(bare, full.base):
        return True
    if not _equal(bare, full.value):
        return False
    return True if _ASKS_PERCENT.search(prompt) else None


def _bare_magnitude(bare: Fraction | float, full: Alternative, _prompt: str) -> bool | None:
    if _equal(bare, full.base):
        return True
    return None if _ratio_in(bare, full.base, RATIOS[MAGNITUDE]) else False


def _bare_word(bare: Fraction | float, full: Alternative, prompt: str) -> bool | None:
    if _equal(bare, full.base):
        return True
    counted = re.escape(full.unit.word.split(" ")[0])
    return False if re.search(rf"(?<!\w){counted}", prompt.casefold()) and len(counted) > 2 else None


def _bare_money(bare: Fraction | float, full: Alternative, prompt: str) -> bool | None:
    unit = full.unit
    if _equal(bare, full.base) and unit.factor >= 1:
        return True
    if _equal(bare, full.value):
        return True if unit.factor == 1 or unit.word in prompt.casefold() else None
    return None if _ratio_in(bare, full.base, _MONEY_RATIOS) else False


def _bare_order(bare: Fraction | float, full: Alternative, _prompt: str) -> bool | None:
    """Compare a number with an ordinal, a year with its era, or a decade."""
    if full.unit.dimension == ERA and full.unit.factor > 0 and bare == full.value:
        return True
    return None if abs(bare) == abs(full.value) else False


def _bare_temperature(bare: Fraction | float, full: Alternative, prompt: str) -> bool | None:
    if _equal(bare, full.value):
        return None if _asks_otherwise(full.unit, prompt) else True
    return None if full.unit.dimension == "temperature" else False


def _bare_measure(bare: Fraction | float, full: Alternative, prompt: str) -> bool | None:
    if _equal(bare, full.value):
        return None if _asks_otherwise(full.unit, prompt) else True
    factors = RATIOS.get(full.unit.dimension, frozenset())
    return None if any(_near(float(bare) * float(factor), full.base, 0.005) for factor in factors) else False


_ASKS_PERCENT = re.compile(r"%|percent|per cent|prozent|pourcent|por ?ciento", re.IGNORECASE)
_MONEY_RATIOS = frozenset({Fraction(1), Fraction(1, 100), *RATIOS[MAGNITUDE]})
_AGAINST_BARE = {
    PERCENT: _bare_percent, MAGNITUDE: _bare_magnitude, WORD: _bare_word, MONEY: _bare_money, ORDINAL: _bare_order, ERA: _bare_order,
    DECADE: _bare_order, "temperature": _bare_temperature, "degrees": _bare_temperature,
}  # fmt: skip


def _asks_otherwise(unit: Unit, prompt: str) -> bool:
    """Whether the question names other units of the dimension, and not this one."""
    named = [found for word in set(re.findall(r"[^\W\d_]{2,}", prompt[-2000:])) for found in units_of(word)[:1]]
    factors = {found.factor for found in named if found.dimension == unit.dimension}
    return bool(factors) and unit.factor not in factors


def _ratio_in(one: Fraction | float, other: Fraction | float, ratios: frozenset[Fraction]) -> bool:
    return any(_equal(float(one) * float(ratio), other) or _equal(one, float(other) * float(ratio)) for ratio in ratios)


def _by_pint(one: Alternative, other: Alternative) -> bool | None:
    mine, yours = pint_factor(one.unit.word), pint_factor(other.unit.word)
    if mine is None or yours is None or mine[0] != yours[0] or mine[0] == "dimensionless":
        return None
    is_equal = _equal(float(one.value) * mine[1], float(other.value) * yours[1])
    return True if is_equal else None


def _equal(one: Fraction | float, other: Fraction | float) -> bool:
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    return _near(one, other, CLOSE)


def _near(one: Fraction | float, other: Fraction | float, share: float) -> bool:
    try:
        left, right = float(one), float(other)
    except OverflowError:
        return False
    return abs(left - right) <= share * max(abs(left), abs(right))


ROUNDING, HUNDREDTH, HAIR = 0.05, 0.01, 1e-4
"""Shares within which a number written with other decimals may be the same one, rounded."""
ROUNDED_DECIMALS = 2
"""A gold number with at least as many decimals is taken as rounded: 33.33 is what 100/3 comes to."""


def same_quantity(gold: Quantity, said: Quantity, prompt: str = "") -> bool | None:
    """Whether an answer's quantity is the gold one; None where it can't be told."""
    first = same(gold.first, said.first, prompt)
    if first:
        return True
    pairs = [same(one, other, prompt) for one in gold.alternatives for other in said.alternatives]
    if any(pair is not False for pair in pairs):
        return None
    return _when_rounded(gold, said)


def _when_rounded(gold: Quantity, said: Quantity) -> bool | None:
    """Judge two values that differ: one may be the other, rounded."""
    mine, yours = gold.first, said.first
    if {mine.unit.dimension, yours.unit.dimension} == {PERCENT, ""} and _near(mine.base, yours.base, HUNDREDTH):
        return None  # 33.3 % for 1/3
    if mine.unit.dimension != yours.unit.dimension and PLAIN not in (mine.unit, yours.unit):
        return False
    scale = yours.unit.factor / mine.unit.factor if mine.unit.dimension == yours.unit.dimension else Fraction(1)
    value = yours.value * scale if mine.unit != yours.unit else yours.value
    if (
        gold.decimals >= ROUNDED_DECIMALS
        and said.decimals != gold.decimals
        and _is_rounded(value, mine.value, gold.decimals)
    ):
        return True
    if gold.decimals != said.decimals and _near(value, mine.value, ROUNDING):
        places = sorted({max(gold.decimals, 0), max(said.decimals, 0)})
        if _near(value, mine.value, HAIR) or _is_rounded(value, mine.value, places[0] or places[-1]):
            return None  # 33.3 for 33.33, 0.67 for 2/3: rounder than asked for, or not
    return None if (gold.is_rough or said.is_rough) and _near(value, mine.value, 0.1) else False


def _is_rounded(exact: Fraction | float, rounded: Fraction | float, places: int) -> bool:
    try:
        return abs(float(exact) - float(rounded)) <= 0.5 * 10.0**-places * (1 + 1e-9) and places < 15
    except OverflowError:
        return False
