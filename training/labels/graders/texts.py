"""Contains: an answer in running text is right when the gold answer stands in it, and nothing denies it.

Two kinds of reference: a label or a name, which must stand as whole words in a sentence that denies nothing; and a JSON list
of accepted mentions (`[{"mention": ...}, ...]`, as entity-translation benchmarks have it), of which one must stand in the answer.
Mentions are sought as plain text: languages that inflect by suffix, or write without spaces, have no word ends to seek.
"""  # noqa: E501

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

from turnout.training.labels.classes import family_of
from turnout.training.labels.graders import Grade, Grader, GraderQuestion
from turnout.training.labels.graders.normalised import is_comparable
from turnout.training.labels.stretches import MAX_CHARS, LabelShape, stretches, without_thinking
from turnout.training.labels.texts import json_value, normal_form
from turnout.training.labels.usable import is_refusal
from turnout.training.labels.values.clean import without_bold

_SENTENCE = re.compile(r"(?<=[.!?。])(?<!\b[NS]o\.)(?<!\b[DMS][rt]\.)(?<!\b\w\.)\s+|\n+")
_DENIES = re.compile(
    r"\b(?:not|never|no|neither|nor|cannot|without|false|wrong|incorrect|rather than|instead of|unlike|except|other than|or|either|maybe|perhaps|might|could|possibly"  # noqa: E501
    r"|confused?|mistaken?s?|often thought|used to|formerly|former|once|until|hardly|unlikely|doubt\w*|claim\w*|disagree|opposite|anything but|far from"  # noqa: E501
    r"|somewhere|almost|nearly|people|many|some|everyone|first thought|would|nicht|kein\w*|pas|nunca|jamais|sondern)\b|n['’]t\b|\?",  # noqa: RUF001, E501
    re.IGNORECASE,
)
_CORRECTED = re.compile(
    r"\b(?:wait|actually|correction|scratch that|on second thought|i was wrong|oops)\b", re.IGNORECASE
)
_LOOSE = re.compile(r"[\W_]+")


def _read_mentions(question: GraderQuestion) -> Grade | None:
    wanted = _mentions(json_value(question.reference) if question.reference.lstrip()[:1] == "[" else None)
    if not wanted:
        return None

    def grade(answer: str) -> float | None:
        said = _folded(without_thinking(answer))
        if any(mention in said for mention in wanted):
            return 1.0
        # There but for accents, spaces and signs: one more way to write it, or another name.
        loose = _loosely(said)
        is_written_otherwise = any(mention and mention in loose for mention in map(_loosely, wanted))
        return None if not said.strip() or is_written_otherwise else 0.0

    return grade


def _mentions(value: Any) -> list[str]:
    entries = value if isinstance(value, list) else []
    found = [entry.get("mention") if isinstance(entry, dict) else None for entry in entries]
    return [_folded(mention) for mention in found if mention] if all(isinstance(m, str) for m in found) else []


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _loosely(text: str) -> str:
    return _LOOSE.sub("", unicodedata.normalize("NFKD", text).casefold())  # marks that combine are no letters


def _read_text(question: GraderQuestion) -> Grade | None:
    gold, wanted = question.reference.strip(), normal_form(question.reference)
    if not is_comparable(question.reference) or family_of(wanted) or _SEVERAL.search(wanted):
        return None

    def grade(answer: str) -> float | None:
        text = without_thinking(answer)
        if len(text) > MAX_CHARS:
            return None
        marked = [one.text for one in stretches(answer) if one.shape in {LabelShape.MARKED, LabelShape.JSON}]
        if len(marked) == 1:
            text = marked[0]
        if wanted not in normal_form(text) or _CORRECTED.search(text) or is_refusal(answer):
            return None
        return 1.0 if names(gold, text, question.prompt) else None

    return grade


def names(gold: str, text: str, prompt: str) -> bool:
    """Whether the first sentence of a text, or one that concludes it, names the wanted thing as what was asked for.

    It says what the thing is ("the capital is Paris", with a word of the question before it, or "it is Paris"), or begins
    with it ("Paris is the capital"). Anything else ("south of Paris") may speak of it for another reason.
    """  # noqa: E501
    sentences = [" ".join(without_bold(piece).split()) for piece in _SENTENCE.split(text)[:400] if _TEXT.search(piece)]
    if any(_DENIES.search(sentence) for sentence in sentences if gold.casefold() in sentence.casefold()):
        return False
    asked = frozenset(_WORD.findall(prompt.casefold()))
    said, led = _patterns(gold)
    for place, sentence in enumerate(sentences):
        if place and not _CONCLUDES.match(sentence):
            continue
        if (found := said.match(sentence)) and _is_asked(found["of"], asked):
            return True
        if not place and (found := led.match(sentence)) and (not found["verb"] or found["verb"].casefold() in asked):
            return True
    return False


@lru_cache(maxsize=1024)
def _patterns(gold: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what says that something is the gold name, and what begins with it."""
    name = rf"[\"'“(]?(?i:{re.escape(gold)})[\"'”)]?"
    before = r"(?:(?:(?:the|an?) )?(?:(?!of |near |from |to |than |in |at )[a-zß-ÿ-]+ ){0,2})"
    says = r"\b(?:(?:is|are|was|were|be|called|named)[: ]\s*|(?:is|are|was|were) (?:\w+ )?[a-z]+ by )"
    return (
        re.compile(rf"(?P<of>.{{0,160}}?){says}{before}{name}{_BEHIND}"),
        re.compile(rf"(?:[Tt]he |[Aa]n? )?{name}(?: (?:is|are|was|were)\b|[,;:–—]| [-–—(]| (?P<verb>[a-z]{{4,}})\b)"),  # noqa: RUF001
    )


def _is_asked(subject: str, asked: frozenset[str]) -> bool:
    """Whether the words before "is" only point to what was asked for, or take up a word of the question."""
    words = _WORD.findall(subject.casefold())
    return not words or words[-1] in _POINTING or any(len(word) > 3 and word in asked for word in words)


_POINTING = frozenset(
    ["it", "this", "that", "he", "she", "they", "there", "answer", "must", "should", "can", "so", "result", "name"]
)
_CONCLUDES = re.compile(
    r"\W*(?:so|thus|therefore|hence|in (?:short|conclusion|summary)|finally|overall|daher|also|donc)\b", re.IGNORECASE
)
_BEHIND = r"(?=\W*$|[,;:(–—]|\W*\s(?:[-–—(]|(?:because|since|as|which|who|where|in|on|at|by|with)\b))"  # noqa: RUF001
_SEVERAL = re.compile(r"[,;/]|\b(?:and|or|und|et|y)\b")
_WORD = re.compile(r"[^\W\d_]+")
_TEXT = re.compile(r"[^\s*_#-]")


MENTIONS = Grader("mentions", 0.9996, _read_mentions)
CONTAINS = Grader("contains", 0.9811, _read_text)  # 51 of 51 labels
