"""Choices: which option of a multiple-choice question an answer picks."""

from __future__ import annotations

import re

from training.labels.texts import normal_form, stated_answers

_OPTION = re.compile(r"(?<!\S)\(?([A-J])[).:](?=\s)")
_GOLD = re.compile(r"\s*\(?([A-J])\)?[.):]?\s*")
_ALONE = re.compile(r"\W*([A-J])\W*")
_LEADING = re.compile(r"\W*([A-J])(?:[).:]|\*\*)(?:\W|$)")
_MARKED = re.compile(r"\*\*\W{0,2}([A-J])(?:[).:]|\*\*)|\(([A-J])\)")


def options(prompt: str) -> dict[str, str]:
    """Return letter to text of the options offered; empty unless they run A, B, ... without a gap."""
    marks = list(_OPTION.finditer(prompt))
    bounds = [mark.start() for mark in marks] + [len(prompt)]
    found = {
        mark[1]: prompt[mark.end() : end].strip().partition("\n")[0].strip()
        for mark, end in zip(marks, bounds[1:], strict=True)
    }
    return found if len(found) >= 2 and set(found) == set("ABCDEFGHIJ"[: len(found)]) else {}


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
