"""Units: what a word after a number makes of its value.

Comes in: the text after a number. Goes out: `Unit`, the dimension and the factor to its base; a word that is not
listed (apples, dollars) is no unit, and the number stands for itself.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple


class Unit(NamedTuple):
    """A dimension, and how many of its base units one of these is; the empty dimension is a plain count."""

    dimension: str = ""
    factor: Fraction = Fraction(1)


PLAIN = Unit()
PERCENT, MAGNITUDE = "percent", "magnitude"

_FACTORS: dict[str, dict[str, str]] = {
    PERCENT: {"% percent pct prozent": "1/100"},
    MAGNITUDE: {
        "thousand": "1000",
        "million millions mio": "1000000",
        "billion billions bn": "1000000000",
        "trillion trillions": "1000000000000",
    },
    "length": {
        "mm millimeter millimeters millimetre millimetres": "1/1000",
        "cm centimeter centimeters centimetre centimetres": "1/100",
        "m meter meters metre metres": "1",
        "km kilometer kilometers kilometre kilometres": "1000",
        "inch inches": "127/5000",
        "ft foot feet": "381/1250",
        "yd yard yards": "1143/1250",
        "mile miles": "201168/125",
    },
    "mass": {
        "mg milligram milligrams": "1/1000000",
        "g gram grams": "1/1000",
        "kg kilogram kilograms": "1",
        "oz ounce ounces": "45359237/1600000000",
        "lb lbs pound pounds": "45359237/100000000",
    },
    "time": {
        "ms millisecond milliseconds": "1/1000",
        "s sec second seconds": "1",
        "min minute minutes": "60",
        "h hr hrs hour hours": "3600",
        "day days": "86400",
        "week weeks": "604800",
    },
    "volume": {
        "ml milliliter milliliters millilitre millilitres": "1/1000",
        "l liter liters litre litres": "1",
    },
    "money": {"cent cents": "1/100", "dollar dollars usd": "1"},
}

UNITS: dict[str, Unit] = {
    name: Unit(dimension, Fraction(factor))
    for dimension, rows in _FACTORS.items()
    for names, factor in rows.items()
    for name in names.split()
}
"""By name in lower case. Names with two usual meanings in one dimension are left out (ton, gallon)."""


def unit_of(text: str) -> Unit:
    """Return the unit that the text after a number begins with; `PLAIN` when it is none."""
    word = text.replace("\\", "").strip(" .").partition(" ")[0].casefold()
    return UNITS.get(word, PLAIN)
