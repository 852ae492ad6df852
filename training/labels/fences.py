"""Fences: the code blocks of an answer, whatever they are fenced with.

Comes in: the text of an answer. Goes out: its blocks, each with its language. As CommonMark has it: three or more
backticks or tildes open a block, at least as many of the same close it, and the end of the text closes one left open.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_OPENING = re.compile(r"^(?P<indent>[ \t]*+(?:>[ \t]?)?)(?P<mark>`{3,}+|~{3,}+)[ \t]*+(?P<language>[^\s`{]*+)[^`\n]*$")
"""Possessive: a run of tildes that a backtick follows would be parted among mark, language and rest in all ways."""
_ONE_LINE = re.compile(r"(?:json\b)?([^`]+)", re.IGNORECASE)
MAX_ONE_LINE = 5000


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """One block.

    Attributes:
        code: its text, without the fences and their indentation.
        language: as named behind the opening fence, in lower case; empty for none.
        is_closed: whether a fence closes it, or the text breaks off.
        is_whole: whether nothing but white space stands around it.
    """

    code: str
    language: str
    is_closed: bool
    is_whole: bool


def blocks(text: str) -> list[CodeBlock]:
    """Return the code blocks in their order; linear in the text."""
    return list(_blocks(text)) if "```" in text or "~~~" in text else []


@lru_cache(maxsize=64)
def _blocks(text: str) -> tuple[CodeBlock, ...]:  # several ask for those of one answer
    bare = text.strip()
    if "\n" not in bare and len(bare) <= MAX_ONE_LINE and bare.startswith("```") and bare.endswith("```"):
        found = _ONE_LINE.fullmatch(bare.strip("`"))
        return (CodeBlock(found[1].strip(), "", is_closed=True, is_whole=True),) if found else ()
    made, lines, opening, start = list[tuple[str, str, bool, int, int]](), text.split("\n"), None, 0
    for number, line in enumerate(lines):
        found = _OPENING.match(line) if opening is None or line.lstrip(" \t>")[:3] in {"```", "~~~"} else None
        if opening is None:
            if found:
                opening, start = found, number
        elif found and not found["language"] and found["mark"].startswith(opening["mark"]):
            made.append((_body(lines[start + 1 : number], opening), opening["language"], True, start, number))
            opening = None
    if opening is not None:
        made.append((_body(lines[start + 1 :], opening), opening["language"], False, start, len(lines) - 1))
    return tuple(
        CodeBlock(
            code,
            language.casefold(),
            is_closed,
            is_whole=not any(line.strip() for line in (*lines[:first], *lines[last + 1 :])),
        )
        for code, language, is_closed, first, last in made
    )


def _body(lines: list[str], opening: re.Match[str]) -> str:
    indent = opening["indent"]
    return "\n".join(line.removeprefix(indent) for line in lines)
