"""Which parts of a prompt decided: the model is asked again without each of them.

Occlusion (Zeiler and Fergus 2014) needs no look into the graph, and says what a reader can check by hand:
"without this sentence, p_match would be 0.93".
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from turnout.serving.router.prompt import Prompt

MAX_PARTS = 12
"""Each part costs a run of the model; a dozen sentences are what a person reads."""

_ENDS = re.compile(r"(?<=[.!?;:])\s+|\n+|(?<=[。！？])")  # noqa: RUF001  # full stops of other scripts


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one part of a prompt does.

    Attributes:
        start, end: code points of the rendered prompt, half-open.
        p_match_without: of the prompt without this part, in (0, 1).
    """

    start: int
    end: int
    p_match_without: float


def parts_of(text: str) -> list[tuple[int, int]]:
    """Cut a text into at most 12 parts at the ends of sentences and lines; neighbours join where there are more.

    The parts are half-open, in order, and cover the text.
    """
    cuts = [match.end() for match in _ENDS.finditer(text) if 0 < match.end() < len(text)]
    if len(cuts) >= MAX_PARTS:  # keep the cuts that are nearest to parts of equal length
        ideal = [len(text) * part / MAX_PARTS for part in range(1, MAX_PARTS)]
        cuts = sorted({min(cuts, key=lambda cut: abs(cut - goal)) for goal in ideal})
    edges = [0, *cuts, len(text)]
    return list(itertools.pairwise(edges)) if text else []


def contributions(
    prompt: Prompt, parts: list[tuple[int, int]], p_match: Callable[[Prompt], float]
) -> tuple[Contribution, ...]:
    """Ask for `p_match` without each of the parts, as many runs of the model as there are parts."""
    return tuple(Contribution(start, end, p_match(_without(prompt, start, end))) for start, end in parts)


def _without(prompt: Prompt, start: int, end: int) -> Prompt:
    return msgspec.structs.replace(prompt, text=prompt.text[:start] + prompt.text[end:])
