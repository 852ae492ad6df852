"""Figures: what an answer gives as its number, date, formula or list, and whether that is the gold one.

Comes in: the gold value and the text of an answer. Goes out: True, False, or None; every stretch of the answer that
claims to be it must say the same.
"""

from __future__ import annotations

import re
from functools import lru_cache

from turnout.training.labels.stretches import Shape, Stretch, states_nothing, stretches
from turnout.training.labels.values import same_value
from turnout.training.labels.values.clean import EMOJI, cleaned, without_bold
from turnout.training.labels.values.digits import PATTERN
from turnout.training.labels.values.formulas import formula
from turnout.training.labels.values.lists import parts
from turnout.training.labels.values.moments import moment
from turnout.training.labels.values.quantities import quantity, word_number
from turnout.training.labels.values.units import WORD, units_of

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
_DENIES = re.compile(
    r"\b(?:not|never|neither|nor|no|cannot|isn|wasn|aren|doesn|can|don|won|wouldn|shouldn)['’]?t?\b(?<!\bcan)(?<!\bdon)(?<!\bwon)|n['’]t\b"  # noqa: RUF001
    r"|\b(?:nicht|kein\w*|pas|ni|nunca|non|either|or|between|maybe|perhaps|possibly|might|could|at least|at most|more than|less than|fewer than"  # noqa: E501
    r"|over|under|up to|greater|smaller|larger|plus or minus|versus|vs|range|unsure|wrong|incorrect|anything but|all but|except|other than|far from"
    r"|hardly|barely)\b|±|\\pm|[<>≤≥?]",
    re.IGNORECASE,
)
_COUNTED = re.compile(r"([$€£¥]?\s?-?[$€£¥]?\d[\d,]*(?:\.\d+)?(?:\s?%)?)(?:\s+[^\d=+*/^<>\\]{1,80})", re.DOTALL)
_HEDGES = re.compile(r"\b(?:or|maybe|perhaps|might|could|between)\b|[<>≤≥≠?]|\\neq?\b", re.IGNORECASE)
_SIGN_WORD = re.compile(
    r"\b(?:minus|negative|moins|menos|half|quarter|third|squared|cubed|point)\b|[\u2010-\u2015](?=\s?\d)", re.IGNORECASE
)
_TOKEN = re.compile(
    rf"(?<![\w.,^_\\/√])(?P<sign>[-\u2212]?\s?)(?P<money>[$€£¥₹]?\s?)(?P<digits>{PATTERN})(?P<word>\s*(?:%|°\s?[CFK]?|[$€£¥]|-?[^\W\d_]+))?"
)
_OPERATES = re.compile(
    r"\b(?:plus|minus|multiplied|divided|squared|cubed|halves|twice|thrice|doubled?|tripled?|roots?|log\w*|ln|sqrt|factorial|reciprocal|power of"
    r"|percent of \d|times\s+(?:\d|the|as|a|more|larger)|(?:ten|hundred|thousand)ths|and a (?:half|third|quarter))\b|% of \d|_\w",
    re.IGNORECASE,
)
"""Words that make another number of the one they stand beside."""
_NUMBERED = re.compile(
    r"(?:#|\b(?:section|step|part|question|page|figure|table|chapter|equation|item|line|problem|exercise|no|nr|number|version|v)\.?)\s*$",
    re.IGNORECASE,
)
_ABOUT = re.compile(r"\W*(?:about|around|nearly|almost|approximately|approx|roughly|circa|[~≈])", re.IGNORECASE)
_JUDGED = re.compile(
    r"[\s,*_]*(?:which |that )?(?:is|was|are|were|would be|seems|looks|isn|wasn)(?:['’]t)?\s+(?:\w+\s){0,2}(?:not|wrong|incorrect|false|too|impossible|unlikely|mistaken|off)\b",  # noqa: RUF001
    re.IGNORECASE,
)
_CITED = re.compile(r"(?<=[\w.)%!*])\s?(?:\[\d{1,3}(?:\s?[,-]\s?\d{1,3})*\]\s?)+(?=[.,;:*]?\s*$)")
_BARRED = re.compile("\\d[\u0300-\u036f\u20d0-\u20ff]")
_LOSS = re.compile(
    r"\b(?:loss(?:es)?|lost|decreas\w+|declin\w+|drop\w*|deficit|below|under|debts?|owe[sd]?|fell|fallen|down|reduc\w+|less|fewer|verlust|perte)\b|\(\s*[$€£¥]?\s?\d[^()]*\)",
    re.IGNORECASE,
)
_ANY_DIGIT = re.compile(r"\d|[⁰¹²³⁴-⁹½¼¾⅓⅔]")
_WORKED = re.compile(r"[\\^√*/+=]|[A-Za-z]\(")
"""Signs of a formula, of which a number is but a part."""
_PARTICLES = frozenset(
    [
        "per",
        "in",
        "of",
        "each",
        "for",
        "and",
        "to",
        "on",
        "at",
        "is",
        "are",
        "was",
        "were",
        "a",
        "an",
        "the",
        "by",
        "from",
        "with",
        "total",
        "altogether",
        "as",
        "more",
        "less",
        "than",
        "times",
        "or",
        "if",
        "when",
        "because",
        "so",
        "that",
        "which",
        "therefore",
        "days'",
        "apiece",
        "left",
        "remaining",
        "und",
        "pro",
        "im",
        "am",
        "et",
        "par",
        "de",
        "en",
        "per-day",
    ]
)
NO_NUMBERS = re.compile(
    r"[\W_]*(?:infinity|infinite|undefined|none(?: of (?:these|the above|them))?|no (?:real )?solutions?|does not exist|impossible|nothing|unendlich|∞|\\infty)[\W_]*",  # noqa: E501
    re.IGNORECASE,
)
MAX_STRETCH = 400


def agrees(gold: str, answer: str, prompt: str = "") -> bool | None:
    """Whether an answer gives the gold value; None where it can't be told, or where it gives two."""
    said = set[bool | None]()
    for stretch, value in zip(stretches(answer), figures(answer), strict=True):
        if stretch.shape is Shape.OPENING and (value is None or _is_given(value, prompt)):
            continue
        if value is None and stretch.shape is Shape.MARKED and _names_no_number(stretch.text):
            continue  # "the answer is the age of the dog", and then its number
        found = None if value is None else _compared(gold, value, prompt)
        is_loss = found is False and _LOSS.search(stretch.text) is not None
        said.add(None if is_loss and value and same_value(gold, f"-{value}") else found)
    return said.pop() if len(said) == 1 else None


def _names_no_number(text: str) -> bool:
    return (
        not _ANY_DIGIT.search(text)
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


def figure(stretch: Stretch) -> str | None:
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
        if "=" in head and not _HEDGES.search(head):
            result = head.rpartition("=")[2].strip(" *_`")
            if is_value(result):
                return result
            if counted := _COUNTED.fullmatch(result):
                return counted[1]
    return _only_number(text)


def _is_taken_back(head: str, text: str) -> bool:
    """Whether what stands behind a value calls it wrong, or says more exactly what was said roughly."""
    rest = text[text.find(head) + len(head) :]
    return bool(rest) and (
        _JUDGED.match(rest) is not None or (_ABOUT.match(head) is not None and _ANY_DIGIT.search(rest) is not None)
    )


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


MAX_WORDS = 60
"""A value without a digit, in words, is no longer."""


@lru_cache(maxsize=8192)
def is_value(text: str) -> bool:
    """Whether the whole text is a figure that is understood: a quantity, a moment, a formula, or a list of such."""
    text = text.strip()
    if not text or len(text) > MAX_STRETCH:
        return False
    if not _ANY_DIGIT.search(text) and "\\" not in text and len(text) > MAX_WORDS:
        return False
    if quantity(text) or moment(text):
        return True
    if several := parts(text):
        return all(map(is_value, several.parts))
    return _ANY_DIGIT.search(text) is not None and formula(cleaned(text)) is not None


_MARKS_BEHIND = frozenset(["!", '"', "'", "\u2032", "\u2033"])


def _only_number(text: str) -> str | None:
    """Return the only number of a sentence, with its unit; None where there are several, or where it is denied."""
    plain = without_bold(EMOJI.sub("", text))
    found = list(_TOKEN.finditer(plain))
    if len(found) != 1 or _DENIES.search(plain) or _SIGN_WORD.search(plain):
        return None
    token = found[0]
    mark = plain[token.end() : token.end() + 1]
    if mark in _MARKS_BEHIND and not token["word"] and plain.count(mark) % 2:
        return None  # a factorial, or said loudly; feet, minutes of arc
    if _OPERATES.search(plain) or _NUMBERED.search(plain[: token.start()]) or _BARRED.search(plain):
        return None
    rest = plain[: token.start()] + plain[token.end() :]
    if _ANY_DIGIT.search(rest) or _WORKED.search(plain):
        return None
    word = (token["word"] or "").strip().lstrip("-")
    if word.casefold() not in _PARTICLES and word and not units_of(word):
        return None
    if word.casefold() in _PARTICLES or (word and units_of(word)[0].dimension == WORD and not quantity(token[0])):
        return f"{token['sign']}{token['money']}{token['digits']}".strip()
    return token[0].strip().rstrip(".,")
