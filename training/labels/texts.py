"""Texts: when two short texts say the same, and the JSON in a text.

Comes in: the text of an answer. Goes out: its normal forms, and the JSON that it is or holds. Which stretch of it is the
answer, `stretches` says.
"""  # noqa: E501

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

import msgspec

from turnout.training.labels.fences import blocks

SHORT_ANSWER_CHARS = 80
"""A longer text is prose: it holds an answer rather than being one."""

LABEL_WORDS, LABEL_CHARS, UNSPACED_LABEL_CHARS = 4, 40, 10
"""How much text is a label or a name, which is written in one way only; the last for scripts without spaces."""

_LATEX_NOISE = re.compile(r"\\(?:left|right|displaystyle|!|,|;| |text|mathrm|mbox|\$)|[$]")
_FORMULA = re.compile(r"[\\^+*/]")
_CODE = re.compile(r"[=;<>|\[\]{}]")
_BOLD = re.compile(r"(?<![\w*)\]}^])(\*\*|__|\*|_|`{1,3})(?=[^\s*_`])(.{1,400}?)(?<=[^\s*_`])\1(?![\w*(\[{^])")
_STARS = re.compile(r"(?<![\w*)\]}^])(\*\*|\*|`{1,3})(?=[^\s*`])(.{1,400}?)(?<=[^\s*`])\1(?![\w*(\[{^])")
_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|„([^“”]+)[“”]|«([^»]+)»|‘([^’]+)’|「([^」]+)」|'([^']+)'")  # noqa: RUF001
_QUOTES = frozenset("\"'“„«‘「")  # noqa: RUF001
_FACTORIAL = re.compile(r"(?:[\d)]|(?<![^\W_])[^\W\d_])!$")
_RAISED = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u207e]+")
_VULGAR = re.compile("(\\d)([\u00bc-\u00be\u2150-\u215e])")
_MARKS = re.compile(r"[*_`\\!]|[^\x00-\x7f]")
_IDLE_SPACE = re.compile(r"(?<!\w) (?![\u0300-\u036f])| (?![\w\u0300-\u036f])")
"""A mark behind a space, such as a lone cedilla, would join the letter before it."""
_NEGATED = re.compile(r"[\s*_`$\"'(]{0,9}(?:[!\u00ac~]|\\(?:neg|lnot)(?![a-z]))\s?[\w(\\]")
"""Not the words behind it: `!p`."""
_ARTICLE = re.compile(r"^(?:the|an?)\s+(?=\w{2})")
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")
_LONG_WORD = re.compile(r"[^\W\d_]{4,}")
_BRACKET = re.compile(r"[{\[]")
_DECODER = json.JSONDecoder()
MAX_CHARS = 40_000
"""In a longer text no pairs of marks are sought, each of which costs a look at what follows."""
MAX_BRACKETS = 50
"""From how many brackets JSON is sought: each costs a look at the rest of the text."""
LOOSE_CHARS = 5
"""A shorter name with a hyphen may be another without: `re-do` is six."""
_EDGES = " \t\n\r.,;:!?\"'“”„«»‘’。、「」…"  # noqa: RUF001  # quotation marks of many languages are meant


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


def is_negated(text: str) -> bool:
    """Whether a sign before the text makes its contrary of it: `!p`, `\u00acp`, `~p`."""
    return _NEGATED.match(text) is not None


def normal_form(text: str) -> str:
    """Return the text without what does not change a word: case, width, mark-up, edges, and spaces in formulas.

    The normal form of a normal form is the same.
    """
    if text.isalnum() and text.isascii():
        return text.lower()  # a letter, a word or a number: most answers of a log
    before, plain = text, _nearly_normal(text)
    while plain != before and _MARKS.search(plain):  # what was taken away may have parted two marks
        before, plain = plain, _nearly_normal(plain)
    return plain


def _nearly_normal(text: str) -> str:
    plain = _LATEX_NOISE.sub("", _without_bold(text)).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    plain = _RAISED.sub(lambda found: f"^({unicodedata.normalize('NFKC', found[0])})", _VULGAR.sub(r"\1 \2", plain))
    folded = unicodedata.normalize("NFKC", plain).casefold()
    whole = " ".join(unicodedata.normalize("NFKC", folded).split())  # folding takes letters and marks apart
    plain = whole.strip(_EDGES)
    is_cut = "!" in whole and is_negated(whole) and not is_negated(plain)  # the one edge that means something
    negated = "!" if is_cut else ""
    return negated + (unicodedata.normalize("NFC", _IDLE_SPACE.sub("", plain)) if _FORMULA.search(plain) else plain)


def tells_by_case(one: str, other: str) -> bool:
    """Whether two short texts that differ by case alone may be two things: `Co` and `CO`, `mW` and `MW`.

    A first letter in lower case changes nothing from three letters on.
    """
    one, other = (text.strip(_EDGES + "*_`$\\()[]{}") for text in (one, other))
    if one == other or max(len(one), len(other)) > CASED_CHARS or one.casefold() != other.casefold():
        return False
    return min(len(one), len(other)) < CASED_CHARS - 1 or not all(
        text.islower() or text.isupper() or text.istitle() for text in (one, other)
    )


CASED_CHARS = 4
"""In a longer word case tells no units, elements or codes apart."""


def loose_form(text: str) -> str:
    """Return the normal form of a name without what is left out as often as not: an article, hyphens, `&` for and."""
    plain = _ARTICLE.sub("", normal_form(text)).replace("&", "and")
    return _HYPHEN.sub("", plain) if len(plain) >= LOOSE_CHARS else plain


def exact_form(text: str) -> str:
    """Return the text without mark-up around it and with one kind of space; case stays: `mW` is not `MW`.

    Words of four letters and more are folded: case tells no units apart in those.
    """
    plain = " ".join(_without_bold(text, _STARS).split()).strip(" ,;:。、…").rstrip(".")
    if plain[:1] in _QUOTES and (found := _QUOTED.fullmatch(plain)):
        plain = next(part for part in found.groups() if part is not None).strip()
    plain = plain if _FACTORIAL.search(plain) else plain.rstrip("!.")  # 5! is no 5
    return _LONG_WORD.sub(_folded_word, plain)


def _folded_word(found: re.Match[str]) -> str:
    word = found[0]
    return word.casefold() if word[1:].islower() or word.isupper() else word  # MBps is not Mbps


def _without_bold(text: str, marks: re.Pattern[str] = _BOLD) -> str:
    before = None
    if len(text) > MAX_CHARS:
        return text.replace("**", "")
    while text != before and ("*" in text or "_" in text or "`" in text):
        before, text = text, marks.sub(r"\2", text)
    return text


def json_value(text: str) -> Any:
    """Return the JSON object or list that the text is, in a code fence or not; None when it is neither."""
    bare = text.strip()
    if bare.startswith(("```", "~~~")) and len(fenced := blocks(bare)) == 1 and fenced[0].is_whole:
        bare = fenced[0].code
    if bare[:1] not in {"{", "["}:
        return None
    try:
        value = msgspec.json.decode(bare)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def embedded_json(text: str) -> Any:
    """Return the JSON object or list that the text is or holds; None when there is none.

    It is sought as the whole text, in the code fences, of which the last counts, and from each bracket on that begins
    a value, of which the longest does.
    """
    return max(found, key=_length) if (found := json_values(text)) else None


def json_values(text: str) -> list[Any]:
    """Return the objects and lists that a text holds: all of it, or each of its code fences, or what stands in its prose."""  # noqa: E501
    if (value := json_value(text)) is not None:
        return [value]
    fenced = [value for block in blocks(text) if (value := json_value(block.code)) is not None]
    return fenced[-1:] if fenced and all(value == fenced[-1] for value in fenced) else fenced or _in_prose(text)


def _length(value: Any) -> int:
    return len(json.dumps(value, default=str))


def _in_prose(text: str) -> list[Any]:
    found, place, tried = list[Any](), 0, 0
    while (start := _BRACKET.search(text, place)) is not None and tried < MAX_BRACKETS:
        tried += 1
        try:
            value, place = _DECODER.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            place = start.end()
            continue
        found.append(value)
    return found
