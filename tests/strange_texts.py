"""Strings made by chance for what reads text: every script, marks in any order, controls, words without end."""

from __future__ import annotations

import random
from collections.abc import Iterator

from turnout.serving.router.native.agreement import STRANGE, TEXTS

RANGES = (
    (0x20, 0x7E, 30),
    (0x00, 0x7F, 4),
    (0x80, 0x17F, 6),
    (0x180, 0x2FF, 2),
    (0x300, 0x36F, 3),
    (0x370, 0x5FF, 4),
    (0x600, 0xFFF, 3),
    (0x1000, 0x1FFF, 2),
    (0x2000, 0x206F, 4),
    (0x2070, 0x2FFF, 2),
    (0x3000, 0x30FF, 3),
    (0x3400, 0x9FFF, 2),
    (0xAC00, 0xD7FF, 2),
    (0xD800, 0xDFFF, 0.1),
    (0xE000, 0xFFFF, 1),
    (0x10000, 0x1FFFF, 1),
    (0x20000, 0x10FFFF, 0.1),
)
"""First, last, and how often."""
_WEIGHTS = [weight for _, _, weight in RANGES]


def strange_texts(chance: random.Random) -> Iterator[str]:
    """Yield strings without end; one in 200 is longer than what is read."""
    kinds = (_characters, _one_script, _fragments, _fragments, _plain_words, _plain_words, _signs)
    while True:
        n = min(int(chance.paretovariate(0.6) * 4), 400)
        text = chance.choice(kinds)(chance, n)
        if chance.random() < 0.005 and text:
            text = (text * (1 + 9000 // len(text)))[: chance.randrange(8000, 9000)]
        yield text


def _character(chance: random.Random, ranges: list[tuple[int, int, float]]) -> str:
    first, last, _ = ranges[0]
    return chr(chance.randint(first, last))


def _characters(chance: random.Random, n: int) -> str:
    return "".join(_character(chance, chance.choices(RANGES, _WEIGHTS)) for _ in range(n))


def _one_script(chance: random.Random, n: int) -> str:
    ranges = chance.choices(RANGES, _WEIGHTS)
    return "".join(_character(chance, ranges) if chance.random() < 0.8 else chance.choice(" a.,0") for _ in range(n))


def _fragments(chance: random.Random, n: int) -> str:
    texts = TEXTS + STRANGE * (chance.random() < 0.2)
    return "".join(chance.choice(texts) + chance.choice((" ", " ", "", "\n")) for _ in range(n // 4))


def _plain_words(chance: random.Random, n: int) -> str:
    return " ".join(
        "".join(chance.choices("abcdefghijklmnopqrstuvwxyzEISTAN", k=min(int(chance.paretovariate(1)), 150)))
        for _ in range(n // 4)
    )


def _signs(chance: random.Random, n: int) -> str:
    return "".join(chance.choices("(Aa) Bb.:)\n\t \r+*/{}[];_#@`$?0123456789must onlyMUST ", k=n))
