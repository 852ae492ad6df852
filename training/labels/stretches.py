"""Stretches: which part of an answer is the answer.

Comes in: the text of an answer. Goes out: the stretches that claim to be it, each with the shape it was found in. All are
to be heard: where two of them differ, the answer says nothing that a label could stand on.

What counts, in this order: the `answer` field of JSON; what is marked (a box, `####`, "the answer is", in many languages);
else a value standing first or last, or in the only sentence. Thoughts (`<think>`) do not count, nor what the answer takes back.
"""  # noqa: E501

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from turnout.training.labels.fences import blocks
from turnout.training.labels.texts import SHORT_ANSWER_CHARS, json_value


class LabelShape(StrEnum):
    """What an answer looks like; a label is as sure as its shape is read."""

    BARE = "bare"
    """Nothing but the value."""
    JSON = "json"
    MARKED = "marked"
    """Boxed, behind `####` or after "the answer is"."""
    SENTENCE = "sentence"
    """One sentence that holds the value."""
    EXPLAINED = "explained"
    """The value first or last, and an explanation."""
    RUNNING = "running"
    """Running text that holds it somewhere."""
    OPENING = "opening"
    """The first sentence of running text: it competes where its number is not one of the question's."""


@dataclass(frozen=True, slots=True)
class AnswerStretch:
    """A part of an answer that claims to be the answer."""

    text: str
    shape: LabelShape


_TAGS = "think|thinking|thought|reasoning|reflection|scratchpad"
_THINKING = re.compile(rf"<(?:{_TAGS})>", re.IGNORECASE)
_THOUGHT = re.compile(rf"</(?:{_TAGS})>", re.IGNORECASE)
_ANSWER_TAG = re.compile(
    r"<(?:answer|final_answer|result)>(.{0,2000}?)</(?:answer|final_answer|result)>", re.DOTALL | re.IGNORECASE
)
_JSON_FIELD = re.compile(r'"(?:final_?|correct_?)?answer"\s*:\s*("(?:[^"\\]|\\.)*"|[^\s,}\]]+)', re.IGNORECASE)
_ANSWER_KEY = re.compile(r"(?:final_?|correct_?)?answer", re.IGNORECASE)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_HASHES = re.compile(r"####[ \t]*(\S[^\n]*)")
_NOUNS = (
    "answer", "correct option", "correct choice", "right option", "right choice", "best option", "best choice", "final result", "final solution",  # noqa: E501
    "antwort", "lösung", "ergebnis", "réponse", "respuesta", "risposta", "resposta", "antwoord", "svar", "odpowiedź", "ответ", "cevap",  # noqa: E501
    "答案", "答え", "正解", "回答", "答", "정답", "답",
)  # fmt: skip
"""What names an answer, in lower case; which of them a text holds is looked up before it is searched."""
_SAID = re.compile(
    r"(?:et|en|s)?(?:[ \t]+finale?)?(?:[ \t]+(?:to|for|of)[ \t]+(?:the|your|this|that)[ \t]+(?:\w+[ \t]+)?(?:question|problem|riddle|task))?[ \t*_\"']{0,5}"  # noqa: E501
    r"(?:\b(?:is|are|ist|lautet|est|es|è|é|är|to)\b[ \t*_]{0,5}[:：]?|=>?|→|は|是|为|為|은|는|[:：])[ \t*_]{0,6}"  # noqa: RUF001
    r"(?P<said>[^\s\n*_][^\n]{0,200}?|\n\s{0,5}[^\s][^\n]{0,200}?)(?=(?<!i\.e)(?<!e\.g)(?<!approx)[.!?](?:\s|$|\*)|[。！？]|\n|$)",  # noqa: RUF001
    re.IGNORECASE,
)
_UNSURE_BEFORE = frozenset(
    [
        "if",
        "whether",
        "suppose",
        "assume",
        "assuming",
        "unless",
        "when",
        "wrong",
        "incorrect",
        "first",
        "old",
        "initial",
        "earlier",
        "previous",
        "my-first",
        "their",
        "his",
        "her",
        "your",
        "possible",
        "not",
        "isn't",
        "wasn't",
        "short",
        "expected",
        "sample",
        "example",
        "wrong",
        "falsche",
    ]
)
_BREAKS_OFF = re.compile(r"(?:[`~]{3,}[^\n]*\n\s*)?[{\[]\s*[\"\n]")
_EXPLAINS = re.compile(
    r"(?:^|\n|[.!?]\s)\W{0,4}(?:explanation|reasoning|reasons?|why|because|note|details|here['’]?s (?:how|why)|steps?|how|breakdown|calculation|working|erklärung|begründung"  # noqa: E501, RUF001
    r"|explication|explicación)\b",
    re.IGNORECASE,
)
_RESULT = re.compile(r"=\s*([$€£¥]?\s?-?[$€£¥]?\d[\d,]*(?:\.\d+)?%?)(?![\d.]*\s*[-+*/×x^=])")  # noqa: RUF001
_CORRECTION = re.compile(
    r"(?<![\w'])(?:wait|hold on|hmm|actually|correction|scratch that|let me (?:re|correct|double|check|fix)|i made (?:a|an) (?:mistake|error)"  # noqa: E501
    r"|on second thought|i was wrong|that(?:'s| is| was) (?:wrong|incorrect|not right)|oops|my mistake|i misread|no, (?:that|it)|apolog"  # noqa: E501
    r"|moment mal|korrektur|genauer gesagt|en fait|correction|perdón|espera|rectifico)(?!\w)",
    re.IGNORECASE,
)
_NOTHING = re.compile(
    r"[\W_]*(?:as follows|below|above|the following|given below|shown below|here|it depends|depends|unclear|unknown|not (?:clear|known|certain)"  # noqa: E501
    r"|yes and no|complicated|simple|straightforward|obvious|found|explained|wie folgt|folgende[rs]?|la suivante|la siguiente|以下)\b.*",  # noqa: E501
    re.IGNORECASE | re.DOTALL,
)
_CONCLUDES = re.compile(
    r"(?:^|\W)(?:so|thus|therefore|hence|altogether|in total|total|overall|finally|in conclusion|that(?:'s| is| makes| leaves)|we (?:get|have|find)|equals"  # noqa: E501
    r"|also|daher|somit|insgesamt|donc|ainsi|au total|por lo tanto|en total|quindi|所以|因此|따라서)(?:\W|$)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\d\.)(?<!\b\w\.)\s+|(?<=\d\.)\s+(?=[A-Z])|(?<=[。！？])|\n+")  # noqa: RUF001
MAX_CHARS = 40_000
"""Of an answer: in a longer one nothing is sought."""
MAX_MARKS = 40
"""Of marked stretches: an answer with more states nothing in particular."""


def without_thinking(text: str) -> str:
    """Return the text without the model's thoughts; nothing where it never stopped thinking."""
    if "<" not in text or ">" not in text:
        return text
    ends = [found.end() for found in _THOUGHT.finditer(text)]
    opening = _THINKING.search(text, ends[-1] if ends else 0)
    first = _THINKING.search(text)
    before = text[: first.start()] if first and ends else ""
    return before + text[ends[-1] if ends else 0 : opening.start() if opening else None].strip()


@lru_cache(maxsize=4096)
def stretches(answer: str) -> tuple[AnswerStretch, ...]:
    """Return the parts that claim to be the answer, in their order; none where nothing can be told."""
    text = without_thinking(answer).strip()
    if len(text) > MAX_CHARS:
        return ()
    if text[:1] in "{[`~" and (value := json_value(text)) is not None:
        said = tuple(AnswerStretch(one, LabelShape.JSON) for one in _answers_of(value))
        return said or (AnswerStretch(text, LabelShape.JSON),)
    if _BREAKS_OFF.match(text) and not _JSON_FIELD.search(text):
        return ()  # JSON that breaks off, or is none
    if (fenced := blocks(text)) and len(fenced) == 1 and fenced[0].is_whole:
        text = fenced[0].code.strip()
    if (marked := _marked(text)) is not None:
        return marked
    return _unmarked(text)


def _answers_of(value: Any, depth: int = 0) -> list[str]:
    """Return all `answer` fields of a JSON value, as texts."""
    found = list[str]()
    if depth > 4 or len(found) > MAX_MARKS:
        return found
    if isinstance(value, dict):
        for key, part in value.items():
            if _ANSWER_KEY.fullmatch(key) and not isinstance(part, dict):
                found.append(_as_text(part))
            elif isinstance(part, dict | list):
                found += _answers_of(part, depth + 1)
    elif isinstance(value, list):
        for part in value[:MAX_MARKS]:
            found += _answers_of(part, depth + 1) if isinstance(part, dict | list) else []
    return found


def _as_text(part: Any) -> str:
    if isinstance(part, bool):
        return "true" if part else "false"
    if isinstance(part, list):
        return "[" + ", ".join(map(_as_text, part)) + "]"
    return "" if part is None else str(part)


def _marked(text: str) -> tuple[AnswerStretch, ...] | None:
    """Return the marked stretches; None where nothing is marked, none where what was marked is taken back."""
    if '"' in text and (fields := _JSON_FIELD.findall(text)):
        return tuple(AnswerStretch(_unquoted(field).strip(), LabelShape.JSON) for field in fields[:MAX_MARKS])
    marks = list[tuple[int, str, bool]]()
    if "\\" in text:
        marks += [(found.start(), found[1], False) for found in _BOXED.finditer(text)]
    if "####" in text:
        marks += [(found.start(), found[1], True) for found in _HASHES.finditer(text)]
    if "<" in text:
        marks += [(found.start(), found[1].strip(), True) for found in _ANSWER_TAG.finditer(text)]
    boxed = {said for _, said, _ in marks}
    for start, end in _nouns(text):
        found = _SAID.match(text, end)
        if found is None:
            continue
        shout = text[found.end() : found.end() + 1] if found["said"][-1:].isdigit() else ""
        said = found["said"].strip(" \t\n*_") + ("!" if shout == "!" else "")
        before = _WORD_BEFORE.findall(text[max(0, start - 40) : start].casefold())[-2:]
        if set(before) & _UNSURE_BEFORE or any(box and box in said for box in boxed) or said.startswith("####"):
            continue
        marks.append((start, said, before[-1:] == ["final"] or text[start:end].casefold().startswith("final")))
    if not marks:
        return None
    marks = _after_correction(text, marks[:MAX_MARKS])
    if any(is_final for *_, is_final in marks):
        marks = [mark for mark in marks if mark[2]]
    return tuple(AnswerStretch(said, LabelShape.MARKED) for _, said, _ in sorted(marks))


def _nouns(text: str) -> list[tuple[int, int]]:
    """Return start and end of the first words in a text that name an answer."""
    folded = text.lower()
    held = tuple(noun for noun in _NOUNS if noun in folded)
    if not held:
        return []
    return [found.span() for found, _ in zip(_any_of(held).finditer(text), range(MAX_MARKS), strict=False)]


@lru_cache(maxsize=256)
def _any_of(nouns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(nouns), re.IGNORECASE)


_WORD_BEFORE = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")  # noqa: RUF001


def _corrections(text: str) -> list[re.Match[str]]:
    """Return where a text takes back what it said."""
    folded = text.lower()
    return list(_CORRECTION.finditer(text)) if any(word in folded for word in _CORRECTING) else []


_CORRECTING = (
    "wait", "hold on", "hmm", "actually", "correct", "scratch", "let me", "mistake", "error", "on second", "i was wrong", "that", "oops",  # noqa: E501
    "misread", "no, it", "apolog", "moment mal", "korrektur", "genauer", "en fait", "perdón", "espera", "rectifico",
)  # fmt: skip
"""One of which stands in every correction: spares most texts the search."""


def _after_correction(text: str, marks: list[tuple[int, str, bool]]) -> list[tuple[int, str, bool]]:
    corrected = [found.start() for found in _corrections(text)]
    first = min(place for place, *_ in marks)
    if not corrected or corrected[-1] < first:
        return marks
    return [mark for mark in marks if mark[0] > corrected[-1]]


def states_nothing(text: str) -> bool:
    """Whether a marked stretch only announces, or says that there is no one answer: "as follows", "it depends"."""
    return not text.strip(" \t\n*_:.") or _NOTHING.fullmatch(text) is not None


def _unmarked(text: str) -> tuple[AnswerStretch, ...]:
    corrected = _corrections(text)
    if corrected:
        text = text[corrected[-1].end() :].lstrip(" ,.:;-—\n")
    pieces = [piece.strip() for piece in _SENTENCE_END.split(text) if piece and piece.strip(" \t*_#-")]
    if "```" in text or "~~~" in text:
        pieces = [piece for piece in pieces if not _FENCE.fullmatch(piece)]
    if not text or not pieces:
        return ()
    if len(pieces) == 1 and len(text) <= 2 * SHORT_ANSWER_CHARS:
        return (AnswerStretch(text, LabelShape.SENTENCE if " " in text.strip() else LabelShape.BARE),)
    first = pieces[0]
    is_short = len(first) <= 2 * SHORT_ANSWER_CHARS
    if is_short and _EXPLAINS.search(text, len(first)):
        return (AnswerStretch(first, LabelShape.EXPLAINED),)  # the answer, then why
    opening = [AnswerStretch(first, LabelShape.EXPLAINED)] if is_lone(first) and not corrected else []
    found = opening + _closing(text, pieces[-1], LabelShape.EXPLAINED if opening else LabelShape.RUNNING)
    if not found and corrected and is_short:
        return (AnswerStretch(first, LabelShape.EXPLAINED),)
    if found and found[0].shape is LabelShape.RUNNING and "=" not in first and is_short:
        found.insert(0, AnswerStretch(first, LabelShape.OPENING))
    return tuple(found)


def _closing(text: str, last: str, shape: LabelShape) -> list[AnswerStretch]:
    """Return what a text gives at its end: the result of its working, or its last sentence where that concludes."""
    result = _restated(text, last)
    if result is not None:
        return [AnswerStretch(result, LabelShape.RUNNING)]
    concludes = is_lone(last) or (_CONCLUDES.search(last) and len(last) <= 3 * SHORT_ANSWER_CHARS)
    return [AnswerStretch(last, shape)] if concludes else []


def _restated(text: str, last: str) -> str | None:
    """Return the result of the last equation where the last sentence says it again, or ends a working of several."""
    results = [result.strip() for result in _RESULT.findall(text)]
    if not results:
        return None
    if "=" in last:
        own = _RESULT.findall(last)
        is_worked = len(results) >= WORKED_EQUATIONS and len(own) == 1 and last.count("=") <= 3
        return own[0].strip() if is_worked and not re.search(r"\b(?:or|if|maybe|could)\b", last) else None
    result = results[-1]
    return result if re.search(rf"(?<![\d.,]){re.escape(result)}(?![\d]|[.,]\d)", last) else None


WORKED_EQUATIONS = 3
"""A text with as many is a working, and the last result its end; with fewer it may explain an answer given before."""


def is_lone(text: str) -> bool:
    """Whether a piece is a value or a name standing alone: few words, no verb to be seen."""
    plain = text.strip(" \t*_`#:.!")
    return (
        0 < len(plain) <= SHORT_ANSWER_CHARS // 2
        and len(plain.split()) <= 4
        and not (_LIST_ITEM.match(text) or _OF_OTHER.match(text))
    )


_FENCE = re.compile(r"[`~]{3,}\w*")
_OF_OTHER = re.compile(
    r"\W*(?!(?:the )?(?:grand |final )?(?:total|result|sum|value|solution|output|label|class|category|sentiment|verdict)\b)[^\W\d_]{2,}[\w ]{0,30}\W{0,2}:\W*\s",  # noqa: E501
    re.IGNORECASE,
)
"""What begins as "Confidence: " gives the value of another thing."""
_LIST_ITEM = re.compile(r"\s*(?:[-•]\s|\d{1,2}[.)]\s|#{1,6}\s|\w+:$)")


def _unquoted(raw: str) -> str:
    # Not decoded as JSON: models write "\frac" with one backslash, which JSON reads as a form feed.
    if len(raw) >= 2 and raw[0] == raw[-1] == '"':
        return raw[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return raw
