"""Comparison: whether two quantities are the same, in other units, rounded, or beside a bare number.

Comes in: two quantities, the gold one first, and the prompt. Goes out: True, False, or None where it can't be told.
"""

from __future__ import annotations

import re
from fractions import Fraction

from turnout.training.labels.values.quantities import Alternative, Quantity
from turnout.training.labels.values.units import (
    BARE_DOLLARS,
    DECADE,
    DOLLARS,
    ERA,
    MAGNITUDE,
    MONEY,
    ORDINAL,
    PERCENT,
    PLAIN,
    RATIOS,
    WORD,
    Unit,
    pint_factor,
    units_of,
)

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
    is_bare = dimensions <= DOLLARS and bool({mine.word, yours.word} & BARE_DOLLARS)  # A$5 is $5 in Australia
    return None if is_bare or (is_money and not _equal(one.value, other.value)) else False


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
    PERCENT: _bare_percent, MAGNITUDE: _bare_magnitude, WORD: _bare_word, MONEY: _bare_money, ORDINAL: _bare_order, ERA: _bare_order,  # noqa: E501
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
    value, turned = _in_unit_of(mine, yours), _in_unit_of(yours, mine)
    if _is_rounded_to(gold, said, value, mine.value):
        return True
    if _is_rounded_to(said, gold, turned, yours.value):
        return None  # 0.01 for 0.0051
    if gold.decimals != said.decimals and _near(value, mine.value, ROUNDING):
        places = sorted({max(gold.decimals, 0), max(said.decimals, 0)})
        if _near(value, mine.value, HAIR) or _is_rounded(value, mine.value, places[0] or places[-1]):
            return None  # 33.3 for 33.33, 0.67 for 2/3: rounder than asked for, or not
    return None if (gold.is_rough or said.is_rough) and _near(value, mine.value, 0.1) else False


def _in_unit_of(mine: Alternative, yours: Alternative) -> Fraction | float:
    """Return your value in my unit; as it is where one of both has none."""
    same_kind = mine.unit != yours.unit and mine.unit.dimension == yours.unit.dimension
    return yours.value * (yours.unit.factor / mine.unit.factor) if same_kind else yours.value


def _is_rounded_to(rounded: Quantity, exact: Quantity, value: Fraction | float, to: Fraction | float) -> bool:
    """Whether a value of other decimals is `to` when it is rounded to as many as that has, and these are enough."""
    if rounded.decimals < ROUNDED_DECIMALS or exact.decimals == rounded.decimals:
        return False
    return _is_rounded(value, to, rounded.decimals)


def _is_rounded(exact: Fraction | float, rounded: Fraction | float, places: int) -> bool:
    try:
        return abs(float(exact) - float(rounded)) <= 0.5 * 10.0**-places * (1 + 1e-9) and places < 15
    except OverflowError:
        return False
