"""Values: whether two short texts say the same value, however each is written.

Comes in: two texts, each the whole of a value, and the prompt they answer. Goes out: True, False, or None where it can't be
told: a rendering that is not understood decides nothing. Numbers, quantities, dates, formulas, lists; else texts in
their normal form, which can be the same, never different.
"""  # noqa: E501

from __future__ import annotations

import re
from functools import lru_cache

from turnout.training.labels.texts import exact_form, loose_form, normal_form
from turnout.training.labels.values.clean import cleaned
from turnout.training.labels.values.comparison import same_quantity
from turnout.training.labels.values.formulas import formula
from turnout.training.labels.values.lists import Parts, parts
from turnout.training.labels.values.moments import moment, same_moment
from turnout.training.labels.values.quantities import quantity

__all__ = ["is_number", "quantity", "same_value"]

MAX_CHARS, MAX_DEPTH = 400, 4
_DIGIT = re.compile(r"\d|[⁰¹²³⁴-⁹½¼¾⅓⅔]|\\|√|π|[∈∪∩≤≥<>=^]")  # noqa: RUF001
_COMMA_PROMPT = re.compile(r"\d,\d{1,2}(?![\d,])")
_COMMA_LANGUAGE = re.compile(
    r"\b(?:antwort|die|der|das|und|réponse|est|les|des|respuesta|el|los|risposta|il|resposta|het|een|ответ)\b",
    re.IGNORECASE,
)
_EQUATION = re.compile(r"(?<![<>=!])=(?!=)")
_RELATION = re.compile(r"\\leq?|\\geq?|≤|≥|<=|>=|<|>")
_FLIPPED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}
_PLAIN_RELATION = {"\\le": "≤", "\\leq": "≤", "<=": "≤", "\\ge": "≥", "\\geq": "≥", ">=": "≥"}


def same_value(one: str, other: str, prompt: str = "", *, depth: int = 0) -> bool | None:
    """Return whether two texts say the same value; None where it can't be told. Symmetric but for rounding.

    Args:
        one: the gold value, where there is one: another that comes to it when rounded as it is, is the same.
        other: the value compared with it.
        prompt: tells the units asked for, and whether decimals are written with a comma.
        depth: of nesting.
    """
    one, other = one.strip(), other.strip()
    if one == other:
        return True if one else None
    if max(len(one), len(other)) > MAX_CHARS or depth > MAX_DEPTH or not one or not other:
        return None
    if not _DIGIT.search(one) and not _DIGIT.search(other):
        return _same_words(one, other, prompt)
    return _same_figures(one, other, prompt, depth)


def is_number(text: str) -> bool:
    """Whether the whole text is a quantity."""
    return quantity(text) is not None


def _same_words(one: str, other: str, prompt: str) -> bool | None:
    if normal_form(one) == normal_form(other) or loose_form(one) == loose_form(other):
        return True if normal_form(one) else None
    mine, yours = parts(one), parts(other)
    if mine and yours:
        return True if _same_parts(mine, yours, prompt, 0) else None
    first, second = quantity(one), quantity(other)  # in words
    return same_quantity(first, second, prompt) if first and second else None


def _same_figures(one: str, other: str, prompt: str, depth: int) -> bool | None:
    if exact_form(one) == exact_form(other):
        return True
    first, second = (
        quantity(one, decimal_comma=_has_comma(one, prompt)),
        quantity(other, decimal_comma=_has_comma(other, prompt)),
    )
    if first and second:
        return None if _are_named_apart(one, other, prompt) else same_quantity(first, second, prompt)
    when, then = moment(one), moment(other)
    if when and then:
        return same_moment(when, then)
    is_number = first is not None or second is not None
    mine, yours = parts(one), parts(other)
    if mine and yours:
        found = _same_parts(mine, yours, prompt, depth)
        return None if found and is_number else found  # `0,1` is a list of two, or a tenth
    is_other = (first and (then or yours)) or (second and (when or mine))
    return None if is_other else _same_formula(one, other)


_NAMED = re.compile(r"\$?\s*([A-Za-z]\w{0,5})\s*=(?!=)")
_LEADING_ZERO = re.compile(r"\D*0\d")
_END_ZERO = re.compile(r"\.\d*0(?!\d)")
_IDENTIFIES = re.compile(
    r"\b(?:which|what|what['’]s|latest|newest|current|name the|give the)\b[^.?!\n]{0,40}\b(?:versions?|releases?|zip|(?:post(?:al)?|area|country) ?codes?|phone|isbn"  # noqa: E501, RUF001
    r"|serial|identifiers?|ids?|codes?|sections?|chapters?|verses?|builds?|ip)\b",
    re.IGNORECASE,
)


def _are_named_apart(one: str, other: str, prompt: str) -> bool:
    """Whether two numbers may name two things: `x = 5`, `y = 5`; `007`, `7`; versions `3.10`, `3.1`."""
    if "=" in one and "=" in other:
        mine, yours = _NAMED.match(one), _NAMED.match(other)
        if mine and yours and mine[1] != yours[1]:
            return True
    if (_LEADING_ZERO.match(one) is None) != (_LEADING_ZERO.match(other) is None):
        return True
    differ = (_END_ZERO.search(one) is None) != (_END_ZERO.search(other) is None)
    return differ and _IDENTIFIES.search(prompt[-2000:]) is not None


def _has_comma(text: str, prompt: str) -> bool:
    """Whether decimals are written with a comma here; asked only of texts that have one reading more for it."""
    if "," not in text and "." not in text:
        return False
    return bool(_COMMA_PROMPT.search(prompt[-2000:]) and _COMMA_LANGUAGE.search(prompt[-2000:]))


def _same_parts(mine: Parts, yours: Parts, prompt: str, depth: int) -> bool | None:
    """Compare part by part; brackets of another kind may mean another thing, sets have no order."""
    kinds = {mine.kind, yours.kind}
    if mine.is_choice != yours.is_choice or (len(kinds) > 1 and ("" not in kinds or kinds & {":", "-"})):
        return None
    if len(mine.parts) != len(yours.parts):
        return False if len(kinds) == 1 and "{}" not in kinds else None
    made = [same_value(a, b, prompt, depth=depth + 1) for a, b in zip(mine.parts, yours.parts, strict=True)]
    if all(made) or (kinds == {"{}"} and _same_unordered(mine, yours, prompt, depth)):
        return True
    if None in made or (":" in kinds and _is_proportional(mine, yours)):
        return None
    return False if kinds <= _ORDERED else None


_ORDERED = {"()", "[]", "[)", "(]", ":", "-"}


def _same_unordered(mine: Parts, yours: Parts, prompt: str, depth: int) -> bool:
    left = list(yours.parts)
    for part in mine.parts:
        found = next((one for one in left if same_value(part, one, prompt, depth=depth + 1)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _is_proportional(mine: Parts, yours: Parts) -> bool:
    (a, b), (c, d) = (tuple(map(float, side.parts)) for side in (mine, yours))
    return a * d == b * c


@lru_cache(maxsize=2048)
def _same_formula(one: str, other: str) -> bool | None:
    left, right = _sides(cleaned(one)), _sides(cleaned(other))
    if left is None or right is None or left[0] != right[0]:
        return None
    mine, yours = list(map(formula, left[1])), list(map(formula, right[1]))
    if None in mine or None in yours or len(mine) != len(yours):
        return None
    pairs = list(zip(mine, yours, strict=True))
    if all(a.equals(b) for a, b in pairs):  # type: ignore[union-attr, arg-type]
        return True
    if left[0] or any(a.variables != b.variables for a, b in pairs):  # type: ignore[union-attr]
        return None
    a, b = pairs[0]
    return None if a.real is not None and b.real is not None and abs(a.real - b.real) < 0.01 * abs(a.real) else False  # type: ignore[union-attr]


def _sides(text: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the relation and its sides, a lone name on the left taken as a label: `y = 2x` is `2x`."""
    relations = _RELATION.findall(text)
    if len(relations) == 1:
        sign = _PLAIN_RELATION.get(relations[0], relations[0])
        one, other = (side.strip() for side in _RELATION.split(text))
        return (">" if sign == "<" else "≥", (other, one)) if sign in "<≤" else (sign, (one, other))
    if relations:
        return None
    sides = [side.strip() for side in _EQUATION.split(text)]
    if len(sides) == 1:
        return "", (text,)
    if len(sides) == 2 and re.fullmatch(r"[A-Za-z](?:_?\w)?(?:\([a-z]\))?", sides[0]):
        return f"{sides[0]}=", (sides[1],)
    return ("=", tuple(sides)) if len(sides) == 2 else None
