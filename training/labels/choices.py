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
_WORD_JOINT = r"(?:and|or|und|oder|et|ou|y|e|o|plus|sowie|as well as|along with|together with|followed by)\b"
_JOINT = (
    rf"[\s*_)\].:\"']{{0,6}}(?:[,;&/+|\u3001\uff0c]|(?<![\w'\u2019]){_WORD_JOINT})"
    rf"[\s*_(\[\"'-]{{0,6}}(?:{_WORD_JOINT}[\s*_(\[]{{0,6}})?(?:(?:also|then)\s)?(?:(?:option|choice|answer)\s)?[*_(\[]{{0,4}}"
)
"""What joins two letters of a list; of bounded length, for no run of spaces may be searched over and over."""
_NEW_LINE = r"[^\w\n]{0,9}\n\W{0,9}(?:\d{1,2}[.)]\s{1,3})?(?:(?:option|choice)\s)?\(?"
_FURTHER = re.compile(rf"{_JOINT}(?P<letter>[A-HJ](?![\w'\u2019])|[a-hj](?=\W{{0,3}}(?:$|[,;&])))")
_NEXT_ALONE = re.compile(r"[\s*_)\].:]{1,8}(?P<letter>[A-J])[\s*_)\].:]{0,8}(?=$|\n|[,;&]|[A-J]\b)")
_NEXT_ITEM = re.compile(rf"{_NEW_LINE}(?P<letter>[A-J])(?![\w'\u2019])(?P<text>[^\n]{{0,200}})")
_RUN = re.compile(rf"(?<![\w'\u2019])(?P<letter>[A-J])(?:{_JOINT}[A-HJ](?![\w'\u2019]))+")
_LIST = re.compile(
    rf"\W{{0,9}}(?:both\s)?(?:(?:options?|choices?|answers?)\W{{1,4}}(?:are\W{{1,4}})?)?"
    rf"(?P<letters>[A-J](?:(?:{_JOINT}|{_NEW_LINE}|[\s*_.)\](\[]{{1,8}})[A-J])++)\W{{0,9}}",
    re.IGNORECASE,
)
"""Possessive: a line break is a joint in two ways, which are tried once, not for every letter anew."""
_TOGETHER = re.compile(r"[A-J]{2,10}")
_LETTER = re.compile(r"(?<![^\W_])[A-Ja-j](?![^\W_])")
_BOTH = re.compile(
    r"[\W_]{0,9}(?:both\s)?(?:(?:the\s)?(?:options|choices|letters|answers)\W{1,4})?(?=[A-J]\b)", re.IGNORECASE
)
_ALSO = re.compile(
    r"(?<![\w'\u2019])(?P<letter>[A-HJ])\b[^.!?\n]{0,40}?\s(?:is|are|would be|could be) (?:also|equally) (?:an? |the )?"
    r"(?:correct|right|answer)"
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


def gold_letters(reference: str, offered: dict[str, str]) -> frozenset[str] | None:
    """Return the letters that a reference lists, all of them offered; None where it is one letter, or anything else."""
    return None if not offered or _by_text(reference, offered) else _listed(reference, offered)


def chosen_letters(answer: str, offered: dict[str, str]) -> frozenset[str] | None:
    """Return the letters that an answer picks: its one choice, or the list that it is or states; None for neither."""
    if (letter := chosen_letter(answer, offered)) is not None:
        return frozenset([letter])
    said = {one.text for one in stretches(answer) if one.shape in {LabelShape.MARKED, LabelShape.JSON}}
    text = without_thinking(answer)
    said = said or ({text} if len(text) <= MAX_CHARS else set())
    return _listed(said.pop(), offered) if len(said) == 1 else None


def _listed(text: str, offered: dict[str, str]) -> frozenset[str] | None:
    """Return the letters of a text that is nothing but a list of two options or more: `B, C`, `B and C`, `BC`."""
    if len(text) > MAX_LIST_CHARS or _OR.search(text):
        return None
    if _TOGETHER.fullmatch(text.strip(" *_.")):
        found = list(text.strip(" *_."))
    else:
        listed = _LIST.fullmatch(text)
        found = [letter.upper() for letter in _LETTER.findall(listed["letters"])] if listed else []
    is_list = len(found) > 1 and len(set(found)) == len(found) and set(found) <= set(offered)
    return frozenset(found) if is_list else None


MAX_LIST_CHARS = 200
_OR = re.compile(r"\b(?:or|oder|ou|o)\b")


def chosen_letter(answer: str, offered: dict[str, str]) -> str | None:
    """Return the letter the answer picks, in any usual form; None when it picks none, several, or one not offered."""
    if len(answer) == 1:
        return answer if answer in offered else None
    found = stretches(answer)
    marked = [one.text for one in found if one.shape in {LabelShape.MARKED, LabelShape.JSON}]
    if marked:
        speaking = [text for text in marked if not states_nothing(text) and _speaks(text, offered)]
        if len(speaking) > 1 and (last := _of_statement(speaking[-1], offered)) is not None:
            # Several, of which only one may be picked, and then that one.
            speaking = [text for text in speaking if not (_opens_list(text, offered) and _begins(text, last))]
        letters = {_of_statement(text, offered) for text in speaking}
        letter = letters.pop() if len(letters) == 1 else None
        if letter and _adds(letter, marked, without_thinking(answer), offered):
            letter = None
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
    if _opens_list(text, offered):
        return None
    if found := _LEADING.match(text):
        return _not_another(found[1], found["text"], offered)
    return _first_or_only(text) or _by_text(_CLAUSE_END.split(text, maxsplit=1)[0], offered)


def _opens_list(text: str, offered: dict[str, str]) -> bool:
    r"""Whether a further option follows the one that a text begins with: `B, C`, `B) apple and C) plum`, `- B\n- C`."""
    lead = _BOTH.match(text)
    first = _FIRST.match(text, lead.end() if lead else 0)
    if not first or first[1] not in offered:
        return False
    rest = first["text"][:MAX_LIST_CHARS]
    bare = rest.lstrip(" \t*_)].:-(\"'")
    option = offered[first[1]].rstrip(" .")
    behind = [rest, _IN_BRACKETS.sub("", rest, count=1)]
    if option and bare.casefold().startswith(option.casefold()):
        behind.append(bare[len(option) :])
    found = [match["letter"].upper() for text in behind for match in [_FURTHER.match(text)] if match]
    found += [match["letter"] for match in [_NEXT_ALONE.match(rest)] if match]
    return any(letter != first[1] for letter in found) or any(
        _next_item(text, 0, offered) not in {None, first[1]} for text in behind
    )


def _next_item(text: str, place: int, offered: dict[str, str]) -> str | None:
    """Return the letter of the next line where that is an option and nothing else."""
    found = _NEXT_ITEM.match(text, place)
    if not found or found["letter"] not in offered:
        return None
    said = normal_form(found["text"].strip(" *_)].:-"))
    return found["letter"] if not said or said == normal_form(offered[found["letter"]]) else None


_IN_BRACKETS = re.compile(r"^[\s*_)\].:]{0,8}\([^()\n]*\)")


def _begins(text: str, letter: str) -> bool:
    return text.lstrip(" *_(").startswith(letter)


def _adds(letter: str, marked: list[str], answer: str, offered: dict[str, str]) -> bool:
    """Whether an answer gives a further option beside the one that it states."""
    also = any(found["letter"] in offered and found["letter"] != letter for found in _ALSO.finditer(answer))
    return also or any(_goes_on(text, answer, offered) for text in marked)


def _goes_on(stated: str, answer: str, offered: dict[str, str]) -> bool:
    """Whether the line behind a stated option gives a further one and nothing else: a list, one option a line."""
    place = answer.rfind(stated)
    if place >= 0 and (_FURTHER if stated[:1] == "[" else _NEXT_ALONE).match(answer, place + len(stated)):
        return True  # `["B", "C"]`, and `B. C.`
    letter = _next_item(answer, place + len(stated), offered) if place >= 0 else None
    return letter is not None and not _begins(stated, letter)


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
    if not _REJECTS.search(text.partition("\n")[0][:80]) and _opens_list(text, offered):
        asserted.add("?")
    asserted |= {found["letter"] for found in _ALSO.finditer(text)}
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
    if said:
        for run in _RUN.finditer(sentence):
            listed = set(_LETTER.findall(run[0]))
            asserted |= listed if said & listed and not _OR.search(run[0]) else set()
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
