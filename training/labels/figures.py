"""Figures: what an answer gives as its number, date, formula or list, and whether that is the gold one.

Comes in: the gold value and the text of an answer. Goes out: True, False, or None; every stretch of the answer that
claims to be it must say the same.
"""

from __future__ import annotations

import re
from functools import lru_cache

from turnout.training.labels.lone_number import ANY_DIGIT, OR_MORE, UNEQUAL, only_number
from turnout.training.labels.stretches import AnswerStretch, LabelShape, states_nothing, stretches
from turnout.training.labels.values import same_value
from turnout.training.labels.values.clean import EMOJI, cleaned
from turnout.training.labels.values.formulas import formula
from turnout.training.labels.values.lists import parts
from turnout.training.labels.values.moments import moment
from turnout.training.labels.values.quantities import quantity, word_number

_LEADS = re.compile(
    r"^[\s*_\"'`>-]*(?:(?:so|thus|therefore|hence|and|also|then|we get|we have|we find|it is|it's|its|that is|that's|this is|there are|there is|they are"  # noqa: E501
    r"|you need|i get|result|total|the total(?: is)?|the result(?: is)?|es ist|es sind|c'est|son|sono|daher|donc)[\s,:]+)+(?=\S)",  # noqa: E501
    re.IGNORECASE,
)
_CUT = re.compile(
    r"\s+[(\[（]|[(\[（](?=[^()\[\]]{0,40}[^\W\d_]{3})|\s*[;:]\s|,\s|\s+[-–—]+\s*|[–—]|\s+(?:because|since|as|which|that|with|for|so|when|if|where|rather than|instead of|not|per|each|in|from|to|by|of"  # noqa: RUF001,E501
    r"|due|given|after|before|weil|da|denn|car|porque|perché|is|are|was)\b|\s*[=≈]\s|\s*\|",
    re.IGNORECASE,
)
_NOT_BUT = re.compile(r"^\s*not\s+[^,;.]{1,40}?,?\s+but\s+(?:rather\s+)?(.+)$", re.IGNORECASE | re.DOTALL)
_COUNTED = re.compile(r"([$€£¥]?\s?-?[$€£¥]?\d[\d,]*(?:\.\d+)?(?:\s?%)?)(?:\s+[^\d=+*/^<>\\]{1,80})", re.DOTALL)
_HEDGES = re.compile(r"\b(?:or|maybe|perhaps|might|could|between)\b|[<>≤≥≠?]|\\neq?\b", re.IGNORECASE)
_ABOUT = re.compile(r"\W*(?:about|around|nearly|almost|approximately|approx|roughly|circa|[~≈])", re.IGNORECASE)
_JUDGED = re.compile(
    r"[\s,*_]*(?:which |that )?(?:is|was|are|were|would be|seems|looks|isn|wasn)(?:['’]t)?\s+(?:\w+\s){0,2}(?:not|wrong|incorrect|false|too|impossible|unlikely|mistaken|off)\b",  # noqa: RUF001, E501
    re.IGNORECASE,
)
_CITED = re.compile(r"(?<=[\w.)%!*])\s?(?:\[\d{1,3}(?:\s?[,-]\s?\d{1,3})*\]\s?)+(?=[.,;:*]?\s*$)")
_LOSS = re.compile(
    r"\b(?:loss(?:es)?|lost|decreas\w+|declin\w+|drop\w*|deficit|below|under|debts?|owe[sd]?|fell|fallen|down|reduc\w+|less|fewer|verlust|perte)\b|\(\s*[$€£¥]?\s?\d[^()]*\)",
    re.IGNORECASE,
)
NO_NUMBERS = re.compile(
    r"[\W_]*(?:infinity|infinite|undefined|none(?: of (?:these|the above|them))?|no (?:real )?solutions?|does not exist|impossible|nothing|unendlich|∞|\\infty)[\W_]*",  # noqa: E501
    re.IGNORECASE,
)
MAX_STRETCH = 400


def agrees(gold: str, answer: str, prompt: str = "") -> bool | None:
    """Whether an answer gives the gold value; None where it can't be told, or where it gives two."""
    found = stretches(answer)
    if len(found) == 1 and (text := found[0].text) == gold and is_whole(text):
        return True  # most answers of a log
    said = set[bool | None]()
    for stretch, value in zip(found, figures(answer), strict=True):
        if stretch.shape is LabelShape.OPENING and (value is None or _is_given(value, prompt)):
            continue
        if value is None and stretch.shape is LabelShape.MARKED and _names_no_number(stretch.text):
            continue  # "the answer is the age of the dog", and then its number
        said.add(None if value is None else _judged(gold, value, stretch.text, prompt))
    return said.pop() if len(said) == 1 else None


def _judged(gold: str, value: str, text: str, prompt: str) -> bool | None:
    """Compare a value with the gold one; "a loss of 3" may be -3."""
    found = _compared(gold, value, prompt)
    if found is False and _LOSS.search(text) and same_value(gold, f"-{value}"):
        return None
    return found


def is_whole(text: str) -> bool:
    """Whether the text is a whole number in plain digits, without leading zeros or thousands marked."""
    return text.isascii() and text.isdecimal() and len(text) <= MAX_WHOLE and (text[0] != "0" or text == "0")


MAX_WHOLE = 15


def _names_no_number(text: str) -> bool:
    return (
        not ANY_DIGIT.search(text)
        and "\\" not in text
        and not any(map(word_number, re.findall(r"[^\W\d_]+", text.casefold())[:20]))
    )


def _is_given(value: str, prompt: str) -> bool:
    """Whether a number is the question's own."""
    digits = re.search(r"\d[\d.,]*\d|\d", value)
    return digits is not None and re.search(rf"(?<![\d.,]){re.escape(digits[0])}(?![\d])", prompt) is not None


def _compared(gold: str, said: str, prompt: str) -> bool | None:
    if NO_NUMBERS.fullmatch(said):
        return False if (number := quantity(gold)) and number.first.value else None  # "none" may be 0
    return same_value(gold, said, prompt)


@lru_cache(maxsize=4096)
def figures(answer: str) -> tuple[str | None, ...]:
    """Return the value that each stretch of the answer gives, None for one that can't be read."""
    return tuple(figure(stretch) for stretch in stretches(answer))


def figure(stretch: AnswerStretch) -> str | None:
    """Return the value that a stretch gives: all of it, its head, what stands behind `=`, or its only number."""
    text = stretch.text.strip()
    if len(text) > MAX_STRETCH or states_nothing(text):
        return None
    text = _CITED.sub("", text) if "[" in text else text
    if is_value(text) or NO_NUMBERS.fullmatch(text):
        return text
    if found := _NOT_BUT.match(text):
        text = found[1]
    text = without_lead(text)
    for head in _heads(text):
        if is_value(head):
            return None if _is_taken_back(head, text) else head
        if "=" in head and not _HEDGES.search(head) and not UNEQUAL.search(head) and not _is_of_other(head):
            result = head.rpartition("=")[2].strip(" *_`")
            if is_value(result):
                return result
            if counted := _COUNTED.fullmatch(result):
                return counted[1]
    return only_number(text)


def _is_taken_back(head: str, text: str) -> bool:
    """Whether what stands behind a value calls it wrong, or says more exactly what was said roughly."""
    rest = text[text.find(head) + len(head) :]
    return bool(rest) and (
        OR_MORE.match(rest) is not None
        or _JUDGED.match(rest) is not None
        or (_ABOUT.match(head) is not None and ANY_DIGIT.search(rest) is not None)
    )


def _is_of_other(equation: str) -> bool:
    """Whether an equation gives the value of more than a name: `x^2 = 5`, `|x| = 5`; `2 m + 3 m = 5 m` reckons."""
    clause = _CLAUSE_JOINT.split(equation[: equation.rfind("=")])[-1]
    left = cleaned(_TIMES.sub("*", _WORDS.split(clause.partition("=")[0])[-1]))
    if not left or _BARE_NAME.fullmatch(left):
        return False
    if _OF_NAME.search(left):
        return True
    made = formula(left)
    return made is not None and any(name not in equation.rpartition("=")[2] for name in made.variables)


_CLAUSE_JOINT = re.compile(r"[,;:]\s|\s(?:so|thus|hence|therefore)\s|=>|\\implies|\\Rightarrow|[→⇒]")
_WORDS = re.compile(
    r"(?<![\\A-Za-z])(?!(?:sqrt|sin|cos|tan|log|exp|ln|abs|mod)(?![A-Za-z]))[^\W\d_]{2,}(?![({])|\\text\s?\{[^{}]*\}"
)
_TIMES = re.compile(r"(?<=[\d)])\s?[xX×]\s?(?=[\d($])")  # noqa: RUF001
_BARE_NAME = re.compile(
    r"\\?(?!(?:sqrt|sin|cos|tan|log|exp|ln|abs)(?![A-Za-z]))[A-Za-z]+(?:_\{?\w{1,9}\}?)?(?:\([^()]*\))?|d\w?/d\w|\\frac\{d\w?\}\{d\w\}"
)
_OF_NAME = re.compile(r"(?<![A-Za-z])[A-Za-z](?:!|\s?mod\s?\d+)$")


def without_lead(text: str) -> str:
    """Return a sentence without the words that only lead to its value: "so it is", "the total is"."""
    return _LEADS.sub("", text)


def _heads(text: str) -> list[str]:
    """Return the text and what of it stands before each cut, the longest first; no cut between two numbers of a list."""  # noqa: E501
    cuts = list(_CUT.finditer(text))[:MAX_CUTS]
    kept = [found.start() for found in cuts if found.start() and not _parts_numbers(text, found)]
    return [bare for head in (text, *(text[:cut] for cut in reversed(kept))) if (bare := _bare(head))]


def _parts_numbers(text: str, cut: re.Match[str]) -> bool:
    is_joint = cut[0].strip() in {",", ";", ":", "-", "–", "—"}  # noqa: RUF001
    return is_joint and _NUMBER_NEXT.match(text, cut.end()) is not None


_NUMBER_NEXT = re.compile(r"(?:\s*(?:and|und|et|y|e|or|&)\s)?[\s*_$€£¥(\[{+\u2212-]*(?:\\|√)?\d|[\s*]*\\(?:frac|sqrt)")
_STRAY_BOLD = re.compile(r"(?<![\w)\]}])\*\*|\*\*(?![\w(\[{\\])")
MAX_CUTS = 12


def _bare(text: str) -> str:
    """Return a head without the signs around it; a full stop before a digit stays, and `!` behind one."""
    text = _STRAY_BOLD.sub("", EMOJI.sub("", text)).strip(" \t\n\u00a0\u200b*_`,;:").rstrip(".").rstrip(" *_`")
    return text if text[-2:-1].isdigit() else text.rstrip("!")


_BOUND = re.compile(rf"(?<=[\w%$€£¥)])(?:{OR_MORE.pattern})\W*$", re.IGNORECASE)
MAX_WORDS = 60
"""A value without a digit, in words, is no longer."""


@lru_cache(maxsize=8192)
def is_value(text: str) -> bool:
    """Whether the whole text is a figure that is understood: a quantity, a moment, a formula, or a list of such."""
    text = text.strip()
    if is_whole(text):
        return True
    if not text or len(text) > MAX_STRETCH or UNEQUAL.search(text) or _BOUND.search(text):
        return False
    if not ANY_DIGIT.search(text) and "\\" not in text and len(text) > MAX_WORDS:
        return False
    if quantity(text) or moment(text):
        return True
    if several := parts(text):
        return all(map(is_value, several.parts))
    return ANY_DIGIT.search(text) is not None and formula(cleaned(text)) is not None
