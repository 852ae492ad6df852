"""Languages: what to call the language of a prompt whose log names none.

Comes in: text. Goes out: its writing system, which is all that can be told without a language model: French and
English are both `Latin script`.
"""

from __future__ import annotations

import unicodedata
from collections import Counter

READ_CHARS = 1000
_KANA = ("HIRAGANA", "KATAKANA")


def script_of(text: str) -> str:
    """Return the writing system of most letters among the first 1,000 characters; empty without letters."""
    letters = [character for character in text[:READ_CHARS] if character.isalpha()]
    if not letters:
        return ""
    if all(letter.isascii() for letter in letters):
        return "Latin script"
    counts = Counter(unicodedata.name(letter, "UNKNOWN").split()[0].split("-")[0] for letter in letters)
    ideographs = counts["CJK"] + sum(counts[kana] for kana in _KANA)
    if any(counts[kana] for kana in _KANA) and ideographs > len(letters) / 2:
        return "Japanese script"
    name = counts.most_common(1)[0][0]
    return "Chinese script" if name == "CJK" else f"{name.capitalize()} script"
