"""Choices: which option of a multiple-choice question an answer picks."""

from __future__ import annotations

import re

from turnout.training.labels.texts import normal_form, stated_answers

_OPTION = re.compile(r"(?<!\S)(?P<opening>\(?)(?P<letter>[A-J])(?P<closing>[).:])(?=\s)")
_GOLD = re.compile(r"\s*\(?([A-J])\)?[.):]?\s*")
_ALONE = re.compile(r"\W*([A-J])\W*")
_LEADING = re.compile(r"\W*([A-J])(?:[).:]|\*\*)(?:\W|$)")
_MARKED = re.compile(r"\*\*\W{0,2}([A-J])(?:[).:]|\*\*)|\(([A-J])\)")


def options(prompt: str) -> dict[str, str]:
    """Return letter to text of the options offered; empty when there are not two of one style in order.

    The options of the question asked come last, after those of any example. Options within a line may be named in
    one another's text ("both (A) and (B)"): there the longest run counts.
    """
    if "A)" not in prompt and "A." not in prompt and "A:" not in prompt:
        return {}  # most prompts of a log: spares them the search
    marks = list(_OPTION.finditer(prompt))
    runs = _runs([mark for mark in marks if _starts_line(mark)])
    run = runs[-1] if runs else max(reversed(_runs(marks)), key=len, default=[])
    ends = [*(mark.start() for mark in run[1:]), len(prompt)][: len(run)]
    return {
        mark["letter"]: prompt[mark.end() : end].strip().partition("\n")[0].strip()
        for mark, end in zip(run, ends, strict=True)
    }


def _starts_line(mark: re.Match[str]) -> bool:
    return not mark.string[mark.string.rfind("\n", 0, mark.start()) + 1 : mark.start()].strip()


def _runs(marks: list[re.Match[str]]) -> list[list[re.Match[str]]]:
    """Return the runs A, B, ... of two marks or more in one style, other marks in between left out."""
    runs: list[list[re.Match[str]]] = []
    waiting: dict[tuple[str, str, str], list[re.Match[str]]] = {}
    for mark in marks:
        letter, style = mark["letter"], (mark["opening"], mark["closing"])
        run = [] if letter == "A" else waiting.pop((letter, *style), None)
        if run is None:
            continue
        run.append(mark)
        waiting[chr(ord(letter) + 1), *style] = run
        if len(run) == 2:
            runs.append(run)
    return runs


def is_letter(reference: str) -> bool:
    """Whether a reference is a letter alone: of use only beside the options."""
    return _GOLD.fullmatch(reference) is not None


def gold_letter(reference: str, offered: dict[str, str]) -> str | None:
    """Return the letter that a reference is, or whose option it quotes; None when it is no option."""
    if found := _GOLD.fullmatch(reference):
        return found[1] if found[1] in offered else None
    return _by_text(reference, offered)


def chosen_letter(answer: str, offered: dict[str, str]) -> str | None:
    """Return the letter the answer picks, in any usual form; None when it picks none, several, or one not offered."""
    stated = {_letter(text) or _by_text(text, offered) for text in stated_answers(answer)} - {None}
    letters = stated or {_letter(answer) or _by_text(answer, offered)}
    letter = letters.pop()
    return None if letters or letter not in offered else letter


def _letter(text: str) -> str | None:
    for found in (_ALONE.fullmatch(text), _LEADING.match(text)):
        if found:
            return found[1]
    marked = {bold or bracketed for bold, bracketed in _MARKED.findall(text)}
    return marked.pop() if len(marked) == 1 else None


def _by_text(text: str, offered: dict[str, str]) -> str | None:
    wanted = normal_form(text)
    same = [letter for letter, option in offered.items() if normal_form(option) == wanted]
    return same[0] if len(same) == 1 else None
