"""Numbers: the final number of an answer, exactly, with separators, units, percents and simple fractions."""

from __future__ import annotations

import re
from fractions import Fraction

from training.labels.texts import is_short, stated_answer

_NUMBER = r"[-+\u2212]?\s?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_FRACTION = rf"(?:{_NUMBER}\s*/\s*\d+(?![\d.])|-?\\[dt]?frac\s*\{{\s*-?\d+\s*\}}\s*\{{\s*\d+\s*\}})"
_ANY = re.compile(rf"(?<![\w.])(?:{_FRACTION}|{_NUMBER})")
_LATEX = re.compile(r"(-?)\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_UNIT = r"(?:\s*(?:%|\\%|°|\^?\\circ|[€£¥]|[^\W\d_]+(?:\s[^\W\d_]+)?))?"
_WHOLE = re.compile(rf"[$€£¥]?\s*({_FRACTION}|{_NUMBER})\s*{_UNIT}\s*\.?")
_GROUPED = re.compile(r"(?<=\d)(?:,|\\!|\{,\})+(?=\d{3})")


def gold_number(reference: str) -> Fraction | None:
    """Return the number that a reference is: alone, with a unit, or after a worked solution's `####`."""
    return _whole(stated_answer(reference) if "####" in reference else reference)


def final_number(answer: str) -> Fraction | None:
    """Return the number of the stated answer; without one, the last number of the text."""
    stated = stated_answer(answer)
    if stated is not None:
        whole = _whole(stated)
        return whole if whole is not None else _last(stated)
    return _last(answer)


def stated_number(answer: str) -> Fraction | None:
    """Return the number that the answer states or is; no guess from running text."""
    stated = stated_answer(answer)
    return _whole(answer if stated is None and is_short(answer) else stated)


def _whole(text: str | None) -> Fraction | None:
    if text is None:
        return None
    found = _WHOLE.fullmatch(_plain(text))
    return _value(found[1]) if found else None


def _last(text: str) -> Fraction | None:
    found = _ANY.findall(_plain(text))
    return _value(found[-1]) if found else None


def _plain(text: str) -> str:
    return _GROUPED.sub("", text).replace("\\$", "$").replace("**", "").strip(" \t\n$*`")


def _value(text: str) -> Fraction | None:
    try:
        if latex := _LATEX.search(text):
            value = Fraction(int(latex[2]), int(latex[3]))
            return -value if latex[1] else value
        return Fraction(re.sub(r"[\s,]", "", text).replace("\u2212", "-"))
    except (ValueError, ZeroDivisionError):
        return None
