"""Classes: which of a closed set of words an answer says: a verdict, a sentiment, or a class that the prompt lists.

Only of these can it be said that an answer is wrong because it says another word: a name may have other names.
"""

from __future__ import annotations

import re
from functools import lru_cache

from turnout.training.labels.texts import normal_form

FAMILIES: tuple[tuple[frozenset[str], ...], ...] = (
    (frozenset({"yes", "y", "yep", "yeah", "ja", "oui", "sí", "si", "sim", "sì", "да", "はい", "是", "예", "네"}),
     frozenset({"no", "n", "nope", "nein", "non", "não", "нет", "いいえ", "否", "아니요", "아니오"})),
    (frozenset({"true", "wahr", "vrai", "verdadero", "vero", "verdadeiro", "правда", "真"}),
     frozenset({"false", "untrue", "not true", "falsch", "faux", "falso", "ложь", "偽", "假"})),
    (frozenset({"positive", "positiv", "positif", "positivo", "positiva"}), frozenset({"negative", "negativ", "négatif", "negativo", "negativa"}),  # noqa: E501
     frozenset({"neutral", "neutre", "neutro", "neutrale"}), frozenset({"mixed", "gemischt"})),
    (frozenset({"correct", "right", "richtig", "correcto"}), frozenset({"incorrect", "wrong", "not correct", "incorrecto"})),  # noqa: E501
    (frozenset({"spam"}), frozenset({"ham", "not spam", "no spam"})),
    (frozenset({"toxic"}), frozenset({"non-toxic", "not toxic", "nontoxic"})),
    (frozenset({"entailment", "entails"}), frozenset({"contradiction", "contradicts"})),
    (frozenset({"high"}), frozenset({"medium"}), frozenset({"low"})),
    (frozenset({"pass", "passed"}), frozenset({"fail", "failed"})),
    (frozenset({"male"}), frozenset({"female"})),
    (frozenset({"approve", "approved"}), frozenset({"reject", "rejected", "deny", "denied"})),
)  # fmt: skip
"""Words that exclude one another, each with its other names."""
_DELIMITER = r"(?:^|[\"'“”‘’`*\[{|/,;•\n(]|\b(?:or|and|oder|und|ou|et|o|y|either|as|are|:)\s)\s*(?:[-*]\s+|\d[.):]\s+|the\s+)?[\"'“‘`*]*"  # noqa: E501, RUF001
_END = r"[\"'”’`*]*\s*(?:$|[\"'”’`*\]}|/,;:.?)\n=(–—-]|\b(?:or|and|oder|und|ou|et|o|y)\b)"  # noqa: RUF001
NEAR_CHARS = 400
"""Classes that a prompt lists stand no farther apart."""


def family_of(word: str) -> tuple[frozenset[str], ...] | None:
    """Return the family that a word in normal form belongs to; None for none."""
    return _BY_WORD.get(word)


_BY_WORD = {word: family for family in FAMILIES for names in family for word in names}


def same_class(gold: str, said: str, prompt: str) -> bool | None:
    """Whether two words in normal form are the same class; None where they may be two names of one thing."""
    if gold == said:
        return True
    family = _BY_WORD.get(gold)
    if family is not None and _BY_WORD.get(said) is family:
        return any({gold, said} <= names for names in family)
    return False if are_listed(gold, said, prompt) else None


@lru_cache(maxsize=4096)
def are_listed(one: str, other: str, prompt: str) -> bool:
    """Whether the prompt lists both as classes to choose from, near one another."""
    folded = prompt.casefold()
    if one not in folded or other not in folded:
        return False
    places = [[found.start() for found in _listed(word).finditer(folded)] for word in (one, other)]
    return any(0 < abs(a - b) <= NEAR_CHARS for a in places[0][:50] for b in places[1][:50])


@lru_cache(maxsize=1024)
def _listed(word: str) -> re.Pattern[str]:
    return re.compile(_DELIMITER + re.escape(word) + _END, re.MULTILINE)


def classes_in(text: str, gold: str) -> set[frozenset[str]]:
    """Return the classes of the gold's family that a text names as words, the longest name first."""
    family = _BY_WORD.get(gold)
    if family is None:
        return set()
    folded, found = normal_form(text), set[frozenset[str]]()
    for name in sorted((name for names in family for name in names), key=len, reverse=True):
        pattern = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
        if len(name) > 1 and pattern.search(folded):
            found.add(next(names for names in family if name in names))
            folded = pattern.sub(" ", folded)
    return found
