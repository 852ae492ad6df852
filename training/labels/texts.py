"""Texts: what an answer says in the end, and when two short answers say the same.

Comes in: the text of an answer. Goes out: the answer that it states, or its normal form.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import msgspec

SHORT_ANSWER_CHARS = 80
"""A longer text is prose: it holds an answer rather than being one."""

LABEL_WORDS, LABEL_CHARS, UNSPACED_LABEL_CHARS = 4, 40, 10
"""How much text is a label or a name, which is written in one way only; the last for scripts without spaces."""

_JSON_FIELD = re.compile(r'"(?:final_?)?answer"\s*:\s*("(?:[^"\\]|\\.)*"|[^\s,}\]]+)', re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_HASHES = re.compile(r"####[ \t]*(\S[^\n]*)")
_PHRASE = re.compile(
    r"(?:final answer|correct answer|answer|antwort|réponse|respuesta)[ \t*_\"'：:]{0,4}"  # noqa: RUF001  # a full-width colon
    r"(?:is|est|ist|es|=|(?<=[:：]))[ \t]*([^\n]+?)(?=[.。]\s|\n|$)",  # noqa: RUF001
    re.IGNORECASE,
)
_FENCE = re.compile(r"```[a-zA-Z]*\n(.*?)```", re.DOTALL)
_MARKS = (('"', _JSON_FIELD), ("\\boxed", _BOXED), ("####", _HASHES), ("", _PHRASE))
"""Each with what must stand in the text for it to match: looking for that first spares most searches."""
_LATEX_NOISE = re.compile(r"\\(?:left|right|displaystyle|!|,|;| |text|mathrm|mbox|\$)|[$]")
_FORMULA = re.compile(r"[\\^+*/]")
_CODE = re.compile(r"[=;<>|\[\]{}]")
_MARKDOWN = re.compile(r"\*\*|__|`")
_EDGES = " \t\n\r.,;:!?\"'“”„«»‘’。、「」…"  # noqa: RUF001  # quotation marks of many languages are meant


def stated_answers(text: str) -> list[str]:
    """Return all that the text marks as its answer, by the strongest mark it uses.

    The marks are, in this order: a JSON `answer` field, a box, `####`, or a phrase such as "the answer is".
    """
    for needle, pattern in _MARKS:
        if (needle in text) and (found := pattern.findall(text)):
            return [_unquoted(answer).strip() for answer in found]
    return []


def stated_answer(text: str) -> str | None:
    """Return the last answer that the text marks as such; None when it marks none."""
    return next(reversed(stated_answers(text)), None)


def is_short(text: str) -> bool:
    """Whether the text is short enough to be an answer as a whole."""
    return len(text.strip()) <= SHORT_ANSWER_CHARS and "\n" not in text.strip()


def is_label(text: str) -> bool:
    """Whether the text is a class label or a name rather than a sentence, which could be put in other words."""
    plain = text.strip()
    if _CODE.search(plain) and "\\" not in plain:
        return False
    limit = LABEL_CHARS if plain.isascii() or " " in plain else UNSPACED_LABEL_CHARS
    return 0 < len(plain) <= limit and len(plain.split()) <= LABEL_WORDS and plain[-1] not in ".!?。！？"  # noqa: RUF001


def normal_form(text: str) -> str:
    """Return the text without what does not change an answer: case, width, mark-up, edges, and spaces in formulas."""
    if text.isalnum() and text.isascii():
        return text.lower()  # a letter, a word or a number: most answers of a log
    plain = _LATEX_NOISE.sub("", _MARKDOWN.sub("", text)).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    plain = " ".join(unicodedata.normalize("NFKC", plain).casefold().split()).strip(_EDGES)
    return plain.replace(" ", "") if _FORMULA.search(plain) else plain


def json_value(text: str) -> Any:
    """Return the JSON object or list that the text is, in a code fence or not; None when it is neither."""
    bare = text.strip()
    if bare.startswith("```") and bare.endswith("```"):
        bare = bare[3:-3].partition("\n")[2]
    try:
        value = msgspec.json.decode(bare)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def embedded_json(text: str) -> Any:
    """Return the JSON object or list that the text is or holds; None when there is none.

    It is sought as the whole text, in the last code fence, and from the first bracket to the last.
    """
    if (value := json_value(text)) is not None:
        return value
    for fenced in reversed(_FENCE.findall(text)):
        if (value := json_value(fenced)) is not None:
            return value
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    if not starts:
        return None
    start = min(starts)
    return json_value(text[start : text.rfind("}" if text[start] == "{" else "]") + 1])


def _unquoted(raw: str) -> str:
    # Not decoded as JSON: models write "\frac" with one backslash, which JSON reads as a form feed.
    if len(raw) >= 2 and raw[0] == raw[-1] == '"':
        return raw[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return raw
