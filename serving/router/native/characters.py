"""What becomes of each character: a table for the fast head in C, asked from the tokenizer and from Python.

Comes in: a tokenizer that cleans and cuts as BERT does. Goes out: the 256 entries of a block of characters, as
`reader.h` has them. Nothing is taken from a list of our own: the tokenizer itself says what it makes of a character
that stands alone, and what it does not treat alone (marks whose order matters, letters that Python's expressions take
for one of ASCII's, characters that this Python's Unicode does not know) is handed over to the Python path.
"""

from __future__ import annotations

import re
import struct
import unicodedata

from tokenizers import Tokenizer

BLOCK = 256
HAND_OVER, DROPPED, BREAK, LETTER, ALONE, HANGUL = range(1, 7)
_KIND_SHIFT, _IS_SPACE, _IS_WORD = 21, 1 << 24, 1 << 25

_WORD = re.compile(r"\w")
_LIKE_ASCII = re.compile("[a-z]", re.IGNORECASE)
"""Long s and the Kelvin sign are letters of ASCII to `features._CONSTRAINT`."""
_FIRST_SYLLABLE, _LAST_SYLLABLE = "\uac00", "\ud7a3"
_GUARD = "0"
"""Stands on both sides of a character that is asked about: a letter to the tokenizer, which nothing turns into."""


def entries_of(block: int, tokenizer: Tokenizer) -> bytes:
    """Return the entries of one block; it takes a millisecond."""
    return struct.pack(f"={BLOCK}I", *(_entry(chr(block * BLOCK + place), tokenizer) for place in range(BLOCK)))


def _entry(character: str, tokenizer: Tokenizer) -> int:
    kind, becomes = _kind(character, tokenizer)
    is_space, is_word = character.isspace(), _WORD.match(character) is not None
    return (ord(becomes) if becomes else 0) | kind << _KIND_SHIFT | _IS_SPACE * is_space | _IS_WORD * is_word


def _kind(character: str, tokenizer: Tokenizer) -> tuple[int, str]:
    """Return what becomes of a character, and the one that it turns into where that is one."""
    if unicodedata.category(character) in {"Cn", "Cs"} or (not character.isascii() and _LIKE_ASCII.match(character)):
        return HAND_OVER, ""
    becomes = tokenizer.normalizer.normalize_str(f"{_GUARD}{character}{_GUARD}")[1:-1]
    if not becomes:
        return DROPPED, ""
    if any(map(unicodedata.combining, becomes)):
        return HAND_OVER, ""
    guarded = f"{_GUARD}{becomes}{_GUARD}"
    pieces = [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(guarded)]
    if pieces == [guarded]:
        return _letters(character, becomes)
    alone = pieces[1] if len(pieces) == 3 else ""
    return (BREAK, "") if pieces == [_GUARD, _GUARD] else (ALONE, alone) if len(alone) == 1 else (HAND_OVER, "")


def _letters(character: str, becomes: str) -> tuple[int, str]:
    """Return the kind of what stays inside a word: a letter, or a syllable whose letters are arithmetic."""
    if len(becomes) == 1:
        return LETTER, becomes
    is_syllable = _FIRST_SYLLABLE <= character <= _LAST_SYLLABLE
    return (HANGUL if is_syllable and becomes == unicodedata.normalize("NFD", character) else HAND_OVER), ""
