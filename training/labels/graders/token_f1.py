"""Token F1: how much an answer in running text shares with a long reference, word by word.

The measure of extractive question answering (Rajpurkar et al. 2016, section 6.1): 2 x shared words / all words, in
normal form. Two good answers differ by chance, so that it needs a margin above 0 to say which is worse, and
speaks only where one is given.
"""

from __future__ import annotations

import re
from collections import Counter

from turnout.training.labels.graders import Grade, Grader, GraderQuestion
from turnout.training.labels.texts import normal_form

_WORD = re.compile(r"[^\W\d_]+|\d+|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
MIN_WORDS = 5
"""A shorter reference shares too few words for a share of them to mean anything."""


def words(text: str) -> list[str]:
    """Return the words in normal form; scripts without spaces give single characters."""
    plain = normal_form(text)
    return _WORD.findall(_UNSPACED.sub(r" \g<0> ", plain))


def token_f1(one: Counter[str], other: Counter[str]) -> float:
    """Return the F1 of two bags of words, 0 to 1; symmetric."""
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 0.0


def _read(question: GraderQuestion) -> Grade | None:
    gold = Counter(words(question.reference))
    if gold.total() < MIN_WORDS or question.reference.lstrip()[0] in "[{":
        return None
    return lambda answer: token_f1(gold, Counter(words(answer)))


TOKEN_F1 = Grader("token_f1", 0.72, _read)
"""51 of 70 labels at a margin of 0.1, against the scores of a judge on Japanese chat, 80 % of which are a match anyway:
a last resort, whose labels are nearly worthless there. Nothing shared measures it on extractive answers."""
