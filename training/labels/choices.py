"""Choices: which option of a multiple-choice question an answer picks."""

from __future__ import annotations

import re
from typing import NamedTuple

from turnout.training.labels.stretches import (
    MAX_CHARS,
    AnswerStretch,
    LabelShape,
    states_nothing,
    stretches,
    without_thinking,
)
from turnout.training.labels.texts import normal_form

_OPTION = re.compile(r"(?P<letter>[A-J])(?P<closing>[).:])(?=\s)")
_SECOND = ("B)", "B.", "B:")
_GOLD = re.compile(r"\s*\(?([A-J])\)?[.):]?\s*")
_ALONE = re.compile(r"\W*(?:(?:option|choice|answer)\W+)?([A-J])\W*", re.IGNORECASE)
_LEADING = re.compile(
    r"[\W_]*(?:(?:option|choice|answer)\W+)?([A-J])(?:[).:\]]|\*\*|\s+[-–—]\s|,\s|\s+(?:because|since|as|\())(?P<text>.*)",  # noqa: RUF001
    re.DOTALL,
)
_MENTION = re.compile(
    r"\*\*\W{0,2}(?P<bold>[A-J])(?:[).:]|\*\*)|\((?P<round>[A-J])\)|\[(?P<square>[A-J])\]|\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer)s?\W{1,4}(?P<named>[A-J])\b"
    r"|(?:^|\n)\W{0,3}(?P<line>[A-J])[).:]\s|(?<![\w'’])(?P<bare>[B-HJ])(?![\w'’])"  # noqa: RUF001
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=\W{0,3}[A-Z])|\n+|;\s")
_REJECTS = re.compile(
    r"\b(?:not|n't|isn't|aren't|wasn't|cannot|can't|doesn't|don't|never|neither|nor|wrong|incorrect|false|tempting|eliminate[ds]?|rule[sd]? out|ruling out|exclude[ds]?"  # noqa: E501
    r"|rejects?|rejected|unlikely|implausible|less likely|too|except|rather than|instead of|unlike|would be if|seems|looks|might|may|could|perhaps|maybe|possibly|either|or"  # noqa: E501
    r"|though|although|while|first thought|at first|distractor|nicht|falsch|pas|faux|no es|incorrecta?)\b|n['’]t\b",  # noqa: RUF001
    re.IGNORECASE,
)
_ASSERTS = (
    re.compile(
        r"(?:\b(?:is|be|was|are|choose|chose|pick|select|go with|going with|leaves?|leaving|answer|option|choice|holds?|therefore|thus|hence|so|only|means|namely|say|would be)\b[\s:,*(\[\"'“]*"  # noqa: E501
        r"(?:(?:the )?(?:option|choice|letter|answer)\b[\s:*(\[]*)?)\(?\*{0,2}(?P<letter>[A-J])(?![\w'’])",  # noqa: RUF001
    ),
    re.compile(
        r"(?<![\w'’])\(?\*{0,2}(?P<letter>[A-J])\*{0,2}[).:]?\*{0,2}(?:\s*\([^()]*\))?[\s,]+(?:is|holds?|must be|works|fits|would be|remains)\b(?!\s+(?:not|wrong|incorrect|false|too|tempting|n't|unlikely|a |an |the wrong))"  # noqa: RUF001,E501
    ),
)
_HEDGES = re.compile(
    r"\b(?:either|or|and|maybe|perhaps|possibly|might|could|not|both|neither|between|n't)\b|\?|/", re.IGNORECASE
)


def options(prompt: str) -> dict[str, str]:
    """Return letter to text of the options offered; empty when there are not two of one style in order.

    The options of the question asked come last, after those of any example. Options within a line may be named in
    one another's text ("both (A) and (B)"): there the longest run counts.
    """
    if not any("A" + mark[1] in prompt and mark in prompt for mark in _SECOND):
        return {}  # most prompts of a log: spares them the search
    marks = _marks(prompt)
    runs = _runs([mark for mark in marks if _starts_line(prompt, mark)])
    run = runs[-1] if runs else max(reversed(_runs(marks)), key=len, default=[])
    ends = [*(mark.start for mark in run[1:]), len(prompt)][: len(run)]
    return {
        mark.letter: prompt[mark.end : end].strip().partition("\n")[0].strip()
        for mark, end in zip(run, ends, strict=True)
    }


class _Mark(NamedTuple):
    """The letter of an option, with the signs around it and where it stands."""

    letter: str
    style: str
    start: int
    end: int


def _marks(prompt: str) -> list[_Mark]:
    """Return all that could be the letter of an option: `A)`, `(A)`, `A.` and `A:` between white space."""
    found = list[_Mark]()
    for mark in _OPTION.finditer(prompt):
        start = mark.start()
        opening = "(" if prompt[start - 1 : start] == "(" else ""
        start -= len(opening)
        if not start or prompt[start - 1].isspace():
            found.append(_Mark(mark["letter"], opening + mark["closing"], start, mark.end()))
    return found


def _starts_line(prompt: str, mark: _Mark) -> bool:
    return not prompt[prompt.rfind("\n", 0, mark.start) + 1 : mark.start].strip()


def _runs(marks: list[_Mark]) -> list[list[_Mark]]:
    """Return the runs A, B, ... of two marks or more in one style, other marks in between left out."""
    runs: list[list[_Mark]] = []
    waiting: dict[tuple[str, str], list[_Mark]] = {}
    for mark in marks:
        run = [] if mark.letter == "A" else waiting.pop((mark.letter, mark.style), None)
        if run is None:
            continue
        run.append(mark)
        waiting[chr(ord(mark.letter) + 1), mark.style] = run
        if len(run) == 2:
            runs.append(run)
    return runs


def gold_letter(reference: str, offered: dict[str, str]) -> str | None:
    """Return the letter that a reference is, or whose option it quotes; None when it is no option."""
    if found := _GOLD.fullmatch(reference):
        return found[1] if found[1] in offered else None
    return _by_text(reference, offered)


def chosen_letter(answer: str, offered: dict[str, str]) -> str | None:
    """Return the letter the answer picks, in any usual form; None when it picks none, several, or one not offered."""
    if len(answer) == 1:
        return answer if answer in offered else None
    found = stretches(answer)
    marked = [one.text for one in found if one.shape in {LabelShape.MARKED, LabelShape.JSON}]
    if marked:
        letters = {
            _of_statement(text, offered) for text in marked if not states_nothing(text) and _speaks(text, offered)
        }
        letter = letters.pop() if len(letters) == 1 else None
    else:
        text = without_thinking(answer)
        letter = _of_text(text, offered, found) if len(text) <= MAX_CHARS else None
    return letter if letter in offered else None


def _speaks(text: str, offered: dict[str, str]) -> bool:
    """Whether a stretch speaks of options at all: "24.2 kcal" before "the answer is (D)" does not."""
    return bool(
        _MENTION.search(text) or _ALONE.fullmatch(text) or re.match(r"\W{0,4}[A-J]\b", text) or _by_text(text, offered)
    )


def _of_statement(text: str, offered: dict[str, str]) -> str | None:
    """Return the letter of a stretch that states the answer: `B`, `(B) apple`, `apple`, `B because A is a stone`."""
    if found := _ALONE.fullmatch(text):
        return found[1].upper() if len(text.strip()) == 1 else found[1]
    if quoted := _by_text(text, offered):
        return quoted
    if _REJECTS.search(text):
        rejected, asserted, _ = _heard(text)
        chosen = asserted - rejected
        if rejected or len(chosen) > 1:
            return chosen.pop() if len(chosen) == 1 else None
    if found := _LEADING.match(text):
        return _not_another(found[1], found["text"], offered)
    return _first_or_only(text) or _by_text(_CLAUSE_END.split(text, maxsplit=1)[0], offered)


def _first_or_only(text: str) -> str | None:
    """Return the letter that a statement begins with, or the only one that it names, where nothing hedges."""
    first = _FIRST.match(text)
    if first and first[1] not in "AI" and not _HEDGES.match(first["text"].lstrip(" ,*)").split(" ")[0] or "x"):
        return first[1]
    letters = {mention.group(mention.lastgroup or 0) for mention in _MENTION.finditer(text)}
    return letters.pop() if len(letters) == 1 and not _HEDGES.search(text) else None


_FIRST = re.compile(
    r"[\W_]*(?:(?:the )?(?:option|choice|letter)\W+)?(?:\*\*)?\(?([A-J])(?![\w'’])(?P<text>.*)",  # noqa: RUF001
    re.DOTALL,
)
_CLAUSE_END = re.compile(r"\s*[(,;.]|\s+(?:because|since|as)\b")


def _of_text(text: str, offered: dict[str, str], found: tuple[AnswerStretch, ...]) -> str | None:
    """Return the letter that a text without marks picks."""
    if alone := _ALONE.fullmatch(text):
        return alone[1] if alone[1].isupper() else None
    if quoted := _by_text(text, offered):
        return quoted
    rejected, asserted, mentioned = _heard(text)
    if _CORRECTED.search(text):
        return None
    if (leading := _led(text, rejected, offered)) is not None:
        asserted.add(leading)
    chosen = asserted - rejected
    if chosen or rejected:
        return chosen.pop() if len(chosen) == 1 else None
    if len(mentioned) == 1 and not _REJECTS.search(text):
        return mentioned.pop()
    quoted_letters = {_by_text(part.text, offered) for part in found}
    return quoted_letters.pop() if len(quoted_letters) == 1 and not mentioned else None


def _led(text: str, rejected: set[str], offered: dict[str, str]) -> str | None:
    """Return the letter that a text begins with, `?` where another option's text follows; None where it lists options."""  # noqa: E501
    leading = _LEADING.match(text)
    if not leading or leading[1] in rejected or _REJECTS.search(text.partition("\n")[0][:80]):
        return None
    is_list = len({mark.group("line") for mark in _MENTION.finditer(text)} - {None}) > 1 or len(options(text)) > 2
    return None if is_list else _not_another(leading[1], leading["text"], offered) or "?"


def _heard(text: str) -> tuple[set[str], set[str], set[str]]:
    """Return the letters that a text rejects, asserts and mentions."""
    rejected, asserted, mentioned = set[str](), set[str](), set[str]()
    for sentence in _SENTENCE.split(text)[:MAX_SENTENCES]:
        _hear(sentence, rejected, asserted, mentioned)
    return rejected, asserted, mentioned


def _hear(sentence: str, rejected: set[str], asserted: set[str], mentioned: set[str]) -> None:
    """Sort the letters of a sentence into those it rejects, asserts, and only mentions in an option's style."""
    letters = {
        mention.group(mention.lastgroup or 0) for mention in _MENTION.finditer(sentence) if mention.lastgroup != "bare"
    }
    said = {found["letter"] for pattern in _ASSERTS for found in pattern.finditer(sentence)}
    if _REJECTS.search(sentence):
        head, but, tail = _BUT.split(sentence, maxsplit=1) if _BUT.search(sentence) else (sentence, "", "")
        rejected |= {mention.group(mention.lastgroup or 0) for mention in _MENTION.finditer(head)}
        if but and not _REJECTS.search(tail):
            asserted |= {found["letter"] for pattern in _ASSERTS for found in pattern.finditer(tail)}
        return
    asserted |= said
    mentioned |= letters


_BUT = re.compile(r"(\bbut\b|\bhowever\b|\bso\b|\btherefore\b|\bhence\b)", re.IGNORECASE)
_CORRECTED = re.compile(
    r"\b(?:wait|actually|correction|scratch that|on second thought|i was wrong|oops|let me re)\b", re.IGNORECASE
)
MAX_SENTENCES = 400


def _not_another(letter: str, text: str, offered: dict[str, str]) -> str | None:
    """Return the letter unless what stands behind it is the text of another option."""
    behind = normal_form(text.partition("\n")[0])
    others = [one for one, option in offered.items() if one != letter and normal_form(option) == behind and behind]
    return None if others and normal_form(offered.get(letter, "")) != behind else letter


def _by_text(text: str, offered: dict[str, str]) -> str | None:
    wanted = normal_form(text)
    same = [letter for letter, option in offered.items() if normal_form(option) == wanted]
    return same[0] if len(same) == 1 else None
