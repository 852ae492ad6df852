"""Formulas: the value of an expression in plain signs, LaTeX or Unicode, exactly where it is rational.

Comes in: text. Goes out: `Formula`, its variables and its value at fixed places; None for what the grammar does not
read. Recursive descent, linear in the text, without powers beyond `MAX_POWER`: nothing in an answer can make it hang.
math-verify was measured and left out: 23 to 208 ms a pair (this: about 0.03 ms), and `10^{10^{10}}` held it 5 s.
"""

from __future__ import annotations

import cmath
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from turnout.training.labels.values.digits import readings

Value = Fraction | complex

MAX_CHARS, MAX_DEPTH, MAX_POWER, MAX_BITS, MAX_FACTORIAL = 200, 25, 400, 4000, 60
PLACES: tuple[dict[str, complex], ...] = tuple(
    {chr(code): complex(0.37 + seed * 0.113 + (code - 64) * 0.0719) for code in (*range(65, 91), *range(97, 123))}
    for seed in (1, 2, 3)
)
"""Where formulas are evaluated: two that are equal at three unlikely places are the same."""
CLOSE = 1e-9

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)|(?P<command>\\[a-zA-Z]+)|(?P<name>[a-zA-Z]+)"
    r"|(?P<sign>\*\*|[-+*/^()\[\]{}|!_√π∞·×÷⋅°∛]))"  # noqa: RUF001  # signs of mathematics are meant
)
_MIDDLE_DOT = re.compile(r"\d\u00b7\d")
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan, "ln": cmath.log, "exp": cmath.exp, "sqrt": cmath.sqrt,
    "arcsin": cmath.asin, "arccos": cmath.acos, "arctan": cmath.atan, "log": cmath.log10, "abs": abs,
}  # fmt: skip
_TIMES = {"*", "·", "×", "⋅", "\\times", "\\cdot", "\\ast"}  # noqa: RUF001
_OVER = {"/", "÷", "\\div"}
_ROOTS, _FRACTION, _BAR, _OPENS_FACTOR = {"√": 2, "∛": 3}, "\\frac", "|", frozenset("([{√π")
_CONSTANTS = {"π": complex(math.pi), "pi": complex(math.pi), "\\pi": complex(math.pi), "i": 1j, "e": complex(math.e)}
_CLOSING = {"(": ")", "[": "]", "{": "}"}


class _Unreadable(Exception):
    """The text is no formula of this grammar."""


@dataclass(frozen=True, slots=True)
class Formula:
    """An expression: its variables, and its value at each of `PLACES`; one exact value where it is rational."""

    variables: frozenset[str]
    values: tuple[Value, ...]

    @property
    def exact(self) -> Fraction | None:
        """The value, where it is a rational number."""
        return self.values[0] if isinstance(self.values[0], Fraction) and not self.variables else None

    @property
    def real(self) -> float | None:
        """The value, where it is a real number without variables."""
        value = complex(self.values[0])
        return value.real if not self.variables and abs(value.imag) < CLOSE else None

    def equals(self, other: Formula) -> bool:
        """Whether both have the same value at every place."""
        return all(map(is_close, self.values, other.values))


def is_close(one: Value, other: Value) -> bool:
    """Whether two values are equal: exactly for rational ones, else to nine digits."""
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return one == other
    try:
        return cmath.isclose(complex(one), complex(other), rel_tol=CLOSE, abs_tol=CLOSE)
    except OverflowError:
        return False


@lru_cache(maxsize=4096)
def formula(text: str) -> Formula | None:
    """Return the expression that the whole text is; None when it is none that is understood."""
    if len(text) > MAX_CHARS or text.endswith("!") or _MIDDLE_DOT.search(text):
        return None  # a factorial, or a number said loudly; `3·14`: a product, or a decimal
    tokens = _tokens(text)
    if not tokens:
        return None
    try:
        parser = _Parser(tokens, PLACES[0])
        first = parser.whole()
        if not parser.variables:
            return Formula(frozenset(), (first,))
        rest = [_Parser(tokens, place).whole() for place in PLACES[1:]]
    except (_Unreadable, ArithmeticError, ValueError, TypeError, RecursionError):
        return None
    values = (first, *rest)
    return Formula(frozenset(parser.variables), values) if all(map(_is_finite, values)) else None


def _is_finite(value: Value) -> bool:
    return isinstance(value, Fraction) or cmath.isfinite(value)


def _tokens(text: str) -> list[str] | None:
    found, place, text = list[str](), 0, text.strip()
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            return None
        name = token["name"]
        if name and name not in _FUNCTIONS and name != "pi":
            if len(name) > 2:
                return None  # a word
            found += name
        else:
            found.append(token[0].strip())
        place = token.end()
    return found


class _Parser:
    def __init__(self, tokens: list[str], place: dict[str, complex]) -> None:
        self.tokens, self.at, self.depth = tokens, 0, 0
        self.place = place
        self.variables = set[str]()

    def whole(self) -> Value:
        value = self._sum()
        if self.at != len(self.tokens):
            raise _Unreadable
        return value

    @property
    def _next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def _take(self, *wanted: str) -> str:
        token = self._next
        if token and token in wanted:
            self.at += 1
            return token
        return ""

    def _sum(self) -> Value:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Unreadable
        value = self._product()
        while sign := self._take("+", "-"):
            other = self._product()
            value = _added(value, other if sign == "+" else -other)
        self.depth -= 1
        return value

    def _product(self) -> Value:
        sign = 1
        while taken := self._take("-", "+"):
            sign = -sign if taken == "-" else sign
        value = self._power()
        is_number = True
        while True:
            if self._take(*_TIMES):
                value = _times(value, self._signed())
            elif self._take(*_OVER):
                value = _over(value, self._signed())
            elif self._starts_factor():
                if self._next[0].isdigit() or self._next[0] == ".":
                    if not (is_number and self._is_mixed()):
                        raise _Unreadable  # `2 3` is no product
                    value = _added(value, self._mixed_part())
                elif self._next == "\\frac" and self.tokens[self.at - 1].isdigit() and is_number:
                    part = self._power()
                    # `1\frac{1}{2}` is one and a half; `2\frac{x}{3}` is a product.
                    proper = isinstance(part, Fraction) and 0 < part < 1
                    is_whole = isinstance(value, Fraction) and value.denominator == 1
                    value = _added(value, part) if proper and is_whole else _times(value, part)
                else:
                    value = _times(value, self._power())
            else:
                return -value if sign < 0 else value
            is_number = False

    def _is_mixed(self) -> bool:
        """Whether `1 1/2` stands here: digits, a stroke, digits, after a whole number."""
        one, stroke, two = ([*self.tokens[self.at : self.at + 3], "", "", ""])[:3]
        before = self.tokens[self.at - 1]
        return before.isdigit() and one.isdigit() and stroke == "/" and two.isdigit() and int(one) < int(two)

    def _mixed_part(self) -> Fraction:
        over, under = int(self.tokens[self.at]), int(self.tokens[self.at + 2])
        self.at += 3
        return Fraction(over, under)

    def _signed(self) -> Value:
        if self._take("-"):
            return -self._power()
        return self._power()

    def _starts_factor(self) -> bool:
        token = self._next
        return (
            bool(token)
            and (token[0].isalnum() or token[0] in ".\\" or token in _OPENS_FACTOR)
            and (token not in _TIMES and token not in _OVER)
        )

    def _power(self) -> Value:
        base = self._atom()
        while True:
            if self._take("!"):
                base = _factorial(base)
            elif self._take("^", "**"):
                sign = -1 if self._take("-") else 1
                exponent = self._braced() if self._next in _CLOSING else self._power()
                base = _raised(base, exponent if sign > 0 else -exponent)
            else:
                return base

    def _braced(self) -> Value:
        closing = _CLOSING[self.tokens[self.at]]
        self.at += 1
        value = self._sum()
        if not self._take(closing):
            raise _Unreadable
        return value

    def _atom(self) -> Value:
        token = self._next
        if not token:
            raise _Unreadable
        if token in _CLOSING:
            return self._braced()
        self.at += 1
        if token[0].isdigit() or token[0] == ".":
            found = readings(token)
            if not found:
                raise _Unreadable
            return found[0]
        if token == _BAR:
            value = self._sum()
            if not self._take("|"):
                raise _Unreadable
            return abs(value) if isinstance(value, Fraction) else complex(abs(value))
        return self._named(token)

    def _named(self, token: str) -> Value:
        name = token.removeprefix("\\")
        if token in _ROOTS or name == "sqrt":
            return self._root(_ROOTS.get(token, 2))
        if token == _FRACTION:
            return _over(self._argument(), self._argument())
        if name in _FUNCTIONS:
            return complex(_FUNCTIONS[name](complex(self._argument_of_function())))
        if (constant := _CONSTANTS.get(token)) is not None:
            return constant
        if len(token) == 1 and token in self.place:
            self.variables.add(token)
            return self.place[token]
        raise _Unreadable

    def _argument(self) -> Value:
        r"""Read what follows `\frac`: braces, or one digit or sign each, as in `\frac12`."""
        if self._next in _CLOSING:
            return self._braced()
        token = self._next
        if token.isdigit() and len(token) > 1:
            self.tokens = [*self.tokens[: self.at], token[0], token[1:], *self.tokens[self.at + 1 :]]
        return self._atom()

    def _argument_of_function(self) -> Value:
        return self._braced() if self._next in _CLOSING else self._power()

    def _root(self, degree: int) -> Value:
        if self._next == "[":
            found = self._braced()
            if not isinstance(found, Fraction) or found.denominator != 1 or not 0 < found < MAX_POWER:
                raise _Unreadable
            degree = int(found)
        inner = self._power() if self._next not in _CLOSING else self._braced()
        if isinstance(inner, Fraction) and inner >= 0:
            exact = _exact_root(inner, degree)
            return exact if exact is not None else complex(float(inner) ** (1 / degree))
        return complex(inner) ** (1 / degree)


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    over, under = (round(float(part) ** (1 / degree)) for part in (value.numerator, value.denominator))
    return Fraction(over, under) if under and Fraction(over, under) ** degree == value else None


def _bounded(value: Value) -> Value:
    if isinstance(value, Fraction) and max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise _Unreadable
    return value


def _added(one: Value, other: Value) -> Value:
    return (
        _bounded(one + other)
        if isinstance(one, Fraction) and isinstance(other, Fraction)
        else complex(one) + complex(other)
    )


def _times(one: Value, other: Value) -> Value:
    return (
        _bounded(one * other)
        if isinstance(one, Fraction) and isinstance(other, Fraction)
        else complex(one) * complex(other)
    )


def _over(one: Value, other: Value) -> Value:
    return (
        _bounded(one / other)
        if isinstance(one, Fraction) and isinstance(other, Fraction)
        else complex(one) / complex(other)
    )


def _raised(base: Value, exponent: Value) -> Value:
    if isinstance(exponent, Fraction) and exponent.denominator == 1 and isinstance(base, Fraction):
        bits = max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent.numerator)
        if abs(exponent) > MAX_POWER or bits > MAX_BITS:
            raise _Unreadable
        return base ** int(exponent)
    return complex(base) ** complex(exponent)


def _factorial(value: Value) -> Fraction:
    if not isinstance(value, Fraction) or value.denominator != 1 or not 0 <= value <= MAX_FACTORIAL:
        raise _Unreadable
    return Fraction(math.factorial(int(value)))
