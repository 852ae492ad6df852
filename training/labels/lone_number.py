"""Lone numbers: the only number of a sentence, where nothing around it makes another one of it.

Comes in: a sentence. Goes out: its number with its unit, or None: where there are several, where it is denied, compared or
reckoned with ("at most 12", "12 times 3", "step 12").
"""  # noqa: E501

from __future__ import annotations

import re

from turnout.training.labels.values.clean import EMOJI, without_bold
from turnout.training.labels.values.digits import PATTERN
from turnout.training.labels.values.quantities import quantity
from turnout.training.labels.values.units import WORD, units_of

ANY_DIGIT = re.compile(r"\d|[⁰¹²³⁴-⁹½¼¾⅓⅔]")
_DENIES = re.compile(
    r"\b(?:not|never|neither|nor|no|cannot|isn|wasn|aren|doesn|can|don|won|wouldn|shouldn)['’]?t?\b(?<!\bcan)(?<!\bdon)(?<!\bwon)|n['’]t\b"  # noqa: RUF001
    r"|\b(?:nicht|kein\w*|pas|ni|nunca|non|either|or|between|maybe|perhaps|possibly|might|could|at least|at most|more than|less than|fewer than"  # noqa: E501
    r"|over|under|up to|greater|smaller|larger|plus or minus|versus|vs|range|unsure|wrong|incorrect|anything but|all but|except|other than|far from"  # noqa: E501
    r"|hardly|barely|(?:minimum|maximum) (?:of )?(?=\d)|and (?:up|above|more|over)"
    r"|and (?:below|under)|mindestens|höchstens|upwards|unequal|differs?|different)\b|±|\\pm|[<>≤≥?]"
    r"|[\u2260\u2262\u2249]|[!/~]=|=/=",
    re.IGNORECASE,
)
UNEQUAL = re.compile(
    r"[\u2260\u2262\u2249]|(?<![\d)])!=|=/=|(?<![=<>])[/~]=|<>|\\not\s?(?:=|\\equiv|\\approx)|\\neq?(?![a-z])|\\nequiv|=\u0338"
    r"|\bnot\s(?:\w\s?)?=|\b(?:unequal|not equal|(?:differs?|different) from)\b",
    re.IGNORECASE,
)
"""What says that two sides are not equal; `5!=120` is a factorial."""
OR_MORE = re.compile(
    r"[\s,]*(?:\b(?:or|and|oder|ou|o)\s"
    r"(?:more|less|fewer|higher|lower|greater|larger|bigger|smaller|above|below|under|over|up|later|earlier"
    r"|older|younger|mehr|weniger|plus|moins|más|menos)\b|\b(?:at (?:most|least)|minimum|maximum|max|more or less)\b)",
    re.IGNORECASE,
)
"""What makes a bound, or something rough, of the number that it stands behind."""
_SIGN_WORD = re.compile(
    r"\b(?:minus|negative|moins|menos|half|quarter|third|squared|cubed|point)\b|[\u2010-\u2015](?=\s?\d)", re.IGNORECASE
)
_MONEY = (
    r"(?:(?:[A-Z][A-Za-z]{0,2}|[A-Z]{2}\s)?[$€£¥₹]"
    r"|(?:USD|EUR|GBP|JPY|INR|CHF|CAD|AUD|HKD|NZD|SGD|TWD|MXN|CNY|RMB|KRW|BRL|SEK|NOK|DKK|ZAR|THB))"
)
"""A sign of money with the letters of its country, or a code."""
_TOKEN = re.compile(
    rf"(?<![\w.,^_\\/√])(?<![A-Za-z][$€£¥₹])(?P<sign>[-\u2212]?\s?)(?P<money>(?:{_MONEY}\s?)?\s?)(?P<digits>{PATTERN})(?P<word>\s*(?:%|°\s?[CFK]?|[$€£¥]|-?[^\W\d_]+))?"
)
_OPERATES = re.compile(
    r"\b(?:plus|minus|multiplied|divided|squared|cubed|halves|twice|thrice|doubled?|tripled?|roots?|log\w*|ln|sqrt|factorial|reciprocal|power of"  # noqa: E501
    r"|percent of \d|times\s+(?:\d|the|as|a|more|larger)|(?:ten|hundred|thousand)ths|and a (?:half|third|quarter))\b|% of \d|_\w",  # noqa: E501
    re.IGNORECASE,
)
"""Words that make another number of the one they stand beside."""
_NUMBERED = re.compile(
    r"(?:#|\b(?:section|step|part|question|page|figure|table|chapter|equation|item|line|problem|exercise|no|nr|number|version|v)\.?)\s*$",
    re.IGNORECASE,
)
_BARRED = re.compile("\\d[\u0300-\u036f\u20d0-\u20ff]")
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
_MARKS_BEHIND = frozenset(["!", '"', "'", "\u2032", "\u2033"])


def only_number(text: str) -> str | None:
    """Return the only number of a sentence, with its unit; None where there are several, or where it is denied."""
    plain = without_bold(EMOJI.sub("", text))
    found = list(_TOKEN.finditer(plain))
    if len(found) != 1 or _is_reckoned(plain, found[0]):
        return None
    token = found[0]
    money = token["money"].replace(" ", "")
    word = (token["word"] or "").strip().lstrip("-")
    is_particle = word.casefold() in _PARTICLES
    units = () if is_particle or not word else units_of(word)
    if money[:1].isalpha():  # `HK$5`, `HKD 5`: as it stands, for it may be another currency
        return None if word and not is_particle else f"{token['sign']}{money} {token['digits']}".strip()
    if word and not is_particle and not units:
        return None
    if is_particle or (units and units[0].dimension == WORD and not quantity(token[0])):
        return f"{token['sign']}{token['money']}{token['digits']}".strip()
    return token[0].strip().rstrip(".,")


def _is_reckoned(plain: str, token: re.Match[str]) -> bool:
    """Whether the words and signs around a number deny it, number something by it, or make another one of it."""
    if any(pattern.search(plain) for pattern in (_DENIES, _SIGN_WORD, _OPERATES, _WORKED, _BARRED)):
        return True
    mark = plain[token.end() : token.end() + 1]
    if mark in _MARKS_BEHIND and not token["word"] and plain.count(mark) % 2:
        return True  # a factorial, or said loudly; feet, minutes of arc
    if OR_MORE.match(plain, token.end("digits")) or OR_MORE.match(plain, token.end()):
        return True
    rest = plain[: token.start()] + plain[token.end() :]
    return _NUMBERED.search(plain[: token.start()]) is not None or ANY_DIGIT.search(rest) is not None
