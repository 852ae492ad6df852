"""From an answer and its signals to the inputs of the second look; the same code trains and serves.

Comes in: the prompt's text, the answer and what came with it (`Signals`). Goes out: a short vector of structural
measures, the answer's shape, and the log-probability of each kind of signal.

Nothing in the answer is obeyed: its text is counted and compared, never interpreted. Work is bounded by the head and
the tail that are read (4,096 characters each), whatever the length; lengths are those of the whole answer.
"""

from __future__ import annotations

import json
import math
import re
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from turnout.serving.router.answer import Answer, Signals
from turnout.serving.router.features import head_and_tail

Floats = NDArray[np.float64]


class Shape(IntEnum):
    """Form of an answer: a log-probability of one letter and that of a page are different signals."""

    EMPTY = 0
    LETTER = 1
    """One letter of a choice, with or without brackets or a full stop."""
    NUMBER = 2
    """A bare number: a value, or the number of a class."""
    SHORT = 3
    """At most `SHORT_WORDS` words in one line: a name, a label, a phrase."""
    TEXT = 4
    """Running text of at most `PAGE_CHARS` characters."""
    PAGE = 5
    """Longer text: steps, explanations."""
    STRUCTURED = 6
    """JSON (also fenced) or tool calls."""
    CODE = 7
    """Begins as program code or holds a fence of it."""


SHORT_WORDS = 12
PAGE_CHARS = 400
NUMBER_CHARS = 40
"""Longer text is no bare number; the expression is quadratic in a run of spaces."""

STRUCTURE: dict[str, str] = {
    "log_chars": "log(1 + characters of the whole answer)",
    "log_lines": "log(1 + line breaks)",
    "log_length_ratio": "log((1 + characters of the answer) / (1 + characters of the prompt))",
    "digit_share": "share of characters that are ASCII digits",
    "upper_share": "share of characters that are ASCII capitals",
    "non_ascii_share": "share of characters outside ASCII",
    "math_share": "share of characters among + * / = < > ^ % | ~ and backslash",
    "code_share": "share of characters among { } [ ] ; _ # @ ` and $",
    "script_differs": "absolute difference of the non-ASCII shares of answer and prompt",
    "answer_in_prompt": "share of the answer's distinct words that the prompt holds",
    "prompt_in_answer": "share of the prompt's last 60 distinct words that the answer holds",
    "names_kept": "share of the capitalised words in the prompt's last 400 characters that the answer holds",
    "distinct_words": "distinct words / words: low where an answer turns in circles",
    "log_hedges": "log(1 + words of doubt: might, perhaps, I think, not sure, approximately, however, ...)",
    "is_refusal": "1 when the answer declines or says that it doesn't know, or the API marked a refusal",
    "has_final": "1 when a final answer is marked: ####, boxed, 'answer is', an answer field",
    "final_in_prompt": "1 when the last number of the answer is also a number of the prompt",
    "log_numbers": "log(1 + numbers in the answer)",
    "log_new_numbers": "log(1 + numbers in the answer that the prompt does not hold)",
    "json_missing": "1 when JSON was asked for and the answer holds none that parses",
    "is_unbalanced": "1 when brackets, or fences of code, are left open",
    "log_items": "log(1 + lines that open with a bullet or a number)",
    "log_questions": "log(1 + question marks)",
    "is_cut": "1 when the finish reason is the length limit, or a long text ends without punctuation",
    "log_tool_calls": "log(1 + tool calls)",
    "log_choices": "log(1 + lettered choices in the prompt)",
    "option_length": "a letter's option: log of its length over the mean of all options, else 0",
    "option_is_catch_all": "1 when a letter's option says all, none or both of the others",
    "prompt_negates": "1 when the prompt's last 600 characters ask for the exception (except, not, false, incorrect)",
}
"""The structural measures, in the order of the vector, and what each one is."""

_WORD = re.compile(r"\w+")
_NAME = re.compile(r"\b[A-Z][\w'\u2019-]{2,}")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_LETTER = re.compile(r"\s*[(\[]?([A-Za-z])[)\].:]?\s*")
_BARE_NUMBER = re.compile(r"\s*[-+]?[$€£]?\d[\d.,]*\s*%?\.?\s*")
_HEDGE = re.compile(
    r"\b(?=[mpslaerhbutin])(?:might|may|perhaps|possibly|probably|likely|seems?|appears?|approximately|about|around|roughly|estimated?"
    r"|assum(?:e|ing)|however|but|although|unclear|uncertain|unsure|not sure|i think|i believe|typically|generally"
    r"|usually|often|as of)\b",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:i(?: am|['\u2019]m) (?:sorry|unable|not able|not aware|not familiar)"
    r"|i (?:can(?:no|['\u2019])t|do(?: not|n['\u2019]t) (?:know|have))|as an ai|unable to"
    r"|no (?:information|record|data)|not (?:available|publicly|specified|mentioned|clear|known)"
    r"|cannot be determined|could not find|unknown|n/a|none of the)\b",
    re.IGNORECASE,
)
_FINAL = re.compile(r"####|\\boxed|\banswer(?:\s+is|\s*:|\"\s*:)|\btherefore\b|\bthus\b", re.IGNORECASE)
_ITEM = re.compile(r"^[ \t]{0,8}(?:[-*•]|\d{1,2}[.)])\s", re.MULTILINE)
"""No `\\s` before the bullet: it tried each of 8,192 line breaks as a beginning, and took 1.4 s."""
_OPTION = re.compile(r"(?:^|[\n,])[ \t]*\(?([A-J])[).:][ \t]+(.+?)(?=,[ \t]*[A-J]:[ \t]|\n|$)")
_CATCH_ALL = re.compile(
    r"\b(?:all|none|both|neither|any) (?:of )?(?:the )?(?:above|these|them|options?)|\ball\b|\bnone\b", re.IGNORECASE
)
_NEGATES = re.compile(r"\b(?:EXCEPT|except|NOT|not|false|FALSE|incorrect|least|LEAST|never)\b")
_WANTS_JSON = re.compile(r"\bjson\b", re.IGNORECASE)
_CODE_START = re.compile(
    r"\s*(?:```(?!json)\w*\n|def |class |import |from \w+ import |#include|function |public |SELECT )"
)
_PUNCTUATION = frozenset(".!?)]}\"'`\u3002\uff01\uff1f\u300d\u300f*%$>:|")
_PAIRS = (("(", ")"), ("[", "]"), ("{", "}"))


def shape_of(answer: Answer) -> Shape:  # noqa: PLR0911  # one line a shape, in the order in which they are tried
    """Return the form of an answer; a pure function of its head and tail."""
    if answer.tool_calls:
        return Shape.STRUCTURED
    text = head_and_tail(answer.text).strip()
    if not text:
        return Shape.EMPTY
    if _LETTER.fullmatch(text):
        return Shape.LETTER
    if len(text) <= NUMBER_CHARS and _BARE_NUMBER.fullmatch(text):
        return Shape.NUMBER
    if text[0] in "{[" or text.startswith("```json"):
        return Shape.STRUCTURED
    if _CODE_START.match(text):
        return Shape.CODE
    if "\n" not in text and len(text.split()) <= SHORT_WORDS and len(text) <= PAGE_CHARS:
        return Shape.SHORT
    return Shape.PAGE if len(answer.text) > PAGE_CHARS else Shape.TEXT


def structure_of(prompt: str, answer: Answer) -> Floats:
    """Return the (len(`STRUCTURE`),) raw measures; bounded work for any length of either text."""
    read, asked = head_and_tail(answer.text), head_and_tail(prompt)
    kinds = _kinds(read)
    n_read = max(1, len(read))
    words, asked_words = _WORD.findall(read.lower()), _WORD.findall(asked.lower())
    distinct, asked_set = set(words), set(asked_words)
    recent = set(asked_words[-60:])
    names = set(_NAME.findall(asked[-400:]))
    numbers = _NUMBER.findall(read)
    asked_numbers = set(_NUMBER.findall(asked))
    options = _OPTION.findall(asked)
    option_length, is_catch_all = _chosen(options, read)
    wants_json = bool(_WANTS_JSON.search(asked))
    stripped = read.rstrip()
    return np.array(
        [
            math.log1p(len(answer.text)),
            math.log1p(read.count("\n")),
            math.log((1 + len(answer.text)) / (1 + len(prompt))),
            kinds[0] / n_read,
            kinds[1] / n_read,
            kinds[2] / n_read,
            kinds[3] / n_read,
            kinds[4] / n_read,
            abs(kinds[2] / n_read - _kinds(asked)[2] / max(1, len(asked))),
            len(distinct & asked_set) / max(1, len(distinct)),
            len(distinct & recent) / max(1, len(recent)),
            sum(name in read for name in names) / max(1, len(names)),
            len(distinct) / max(1, len(words)),
            math.log1p(len(_HEDGE.findall(read))),
            float(answer.is_refusal or bool(_REFUSAL.search(read))),
            float(bool(_FINAL.search(read))),
            float(bool(numbers) and numbers[-1] in asked_numbers),
            math.log1p(len(numbers)),
            math.log1p(sum(number not in asked_numbers for number in numbers)),
            float(wants_json and not _holds_json(read)),
            float(any(read.count(one) != read.count(other) for one, other in _PAIRS) or read.count("```") % 2 == 1),
            math.log1p(len(_ITEM.findall(read))),
            math.log1p(read.count("?")),
            float(
                answer.finish_reason == "length" or (len(stripped) > PAGE_CHARS and stripped[-1] not in _PUNCTUATION)
            ),
            math.log1p(answer.tool_calls),
            math.log1p(len(options)),
            option_length,
            is_catch_all,
            float(bool(_NEGATES.search(asked[-600:]))),
        ]
    )


def _chosen(options: list[tuple[str, str]], read: str) -> tuple[float, float]:
    letter = _LETTER.fullmatch(read[:8]) if len(read) <= 8 else None
    texts = dict(options)
    if letter is None or letter.group(1).upper() not in texts:
        return 0.0, 0.0
    chosen = texts[letter.group(1).upper()]
    mean = sum(map(len, texts.values())) / len(texts)
    return math.log((1 + len(chosen)) / (1 + mean)), float(bool(_CATCH_ALL.search(chosen)))


def _holds_json(read: str) -> bool:
    start = min((place for place in (read.find("{"), read.find("[")) if place >= 0), default=-1)
    if start < 0:
        return False
    try:
        json.JSONDecoder().raw_decode(read[start:])
    except (ValueError, RecursionError):
        return False
    return True


_DIGIT, _UPPER, _NON_ASCII, _MATH, _CODE, _OTHER = range(6)
_CLASSES = np.full(129, _OTHER, np.uint8)
for _characters, _kind in (
    ("0123456789", _DIGIT),
    ("ABCDEFGHIJKLMNOPQRSTUVWXYZ", _UPPER),
    ("+*/=<>^%|~\\", _MATH),
    ("{}[];_#@`$", _CODE),
):
    for _character in _characters:
        _CLASSES[ord(_character)] = _kind
_CLASSES[128] = _NON_ASCII


def _kinds(text: str) -> NDArray[np.int64]:
    codepoints = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return np.bincount(_CLASSES[np.minimum(codepoints, 128)], minlength=6)


LOG_PROBABILITY_FLOOR = -20.0
ROUNDING = 1e-3
"""By how much a log-probability may be above 0 and still be one, rounded."""

SIGNALS = ("self_check", "mean_logprob")
"""Kinds of signal, in the order of the vector: what the model itself says of its answer when asked once more, and the
mean log-probability of the answer's tokens. Least, last and sum of the tokens, and margins, gained nothing over the
mean on rows that had them, and the data to tell is thin (docs/decisions/training/0013)."""


def signals_of(signals: Signals) -> Floats:
    """Return (2,) log-probabilities at most 0 in the order of `SIGNALS`; NaN where one is absent or unusable.

    A value that is NaN or positive by more than rounding is unusable, -inf is clipped to `LOG_PROBABILITY_FLOOR`. One
    bad token makes its whole sequence unusable: the mean of the others would be another signal.
    """
    mean = math.nan
    if signals.token_logprobs:
        tokens = np.asarray(signals.token_logprobs, dtype=np.float64)
        if not np.isnan(tokens).any() and tokens.max() <= ROUNDING:
            mean = float(np.clip(tokens, LOG_PROBABILITY_FLOOR, 0.0).mean())
    else:
        mean = _usable(signals.mean_logprob)
    return np.array([_usable(signals.self_check), mean])


def came_with(signals: Signals) -> tuple[str, ...]:
    """Return the kinds of signal that came, usable or not."""
    has_tokens = signals.token_logprobs is not None or signals.mean_logprob is not None
    return tuple(name for name, came in zip(SIGNALS, (signals.self_check is not None, has_tokens), strict=True) if came)


def _usable(value: float | None) -> float:
    if value is None or math.isnan(value) or value > ROUNDING:
        return math.nan
    return max(LOG_PROBABILITY_FLOOR, min(0.0, value))
