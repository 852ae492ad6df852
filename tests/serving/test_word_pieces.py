"""Word pieces: the very ids of the library, whichever way a text goes."""

from __future__ import annotations

import functools

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from tests.builders import tiny_tokenizer
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.router.word_pieces import WordPieces

REAL = (find_bundle() / "tokenizer.json").read_bytes()
PLAIN = st.text(st.characters(max_codepoint=0x7E, min_codepoint=0x20) | st.sampled_from("\t\n\r"), max_size=200)
WORDS = st.lists(
    st.sampled_from(["the", "Ferry", "unlikely", "xqzt", "x" * 101, "3.14", "it's", "[MASK]", "é", "\x00", "漢字"]),
    max_size=20,
).map(" ".join)


@functools.cache
def word_pieces(tokenizer_json: bytes) -> WordPieces:
    return WordPieces(tokenizer_json)


@functools.cache
def library(tokenizer_json: bytes) -> Tokenizer:
    tokenizer = Tokenizer.from_buffer(tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def library_ids(tokenizer_json: bytes, text: str) -> list[int]:
    return library(tokenizer_json).encode(text, add_special_tokens=False).ids


@given(PLAIN | WORDS | st.text(max_size=100))
@example("")
@example("a\x0bb\x1cc\x7fd")  # white space to Python, controls to BERT
@example("\u017fhould \u0131t be \u212a?")  # letters whose lower case is ASCII
def test_ids_are_those_of_the_library(text: str):
    assert word_pieces(REAL)(text) == library_ids(REAL, text)


@given(PLAIN)
def test_ids_are_those_of_the_library_with_a_small_vocabulary(text: str):
    assert word_pieces(tiny_tokenizer())(text) == library_ids(tiny_tokenizer(), text)


def with_added_token(content: str, *, normalized: bool) -> bytes:
    tokenizer = msgspec.json.decode(REAL)
    token = {"id": 1, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "special": False}
    tokenizer["added_tokens"].append(token | {"normalized": normalized})
    return msgspec.json.encode(tokenizer)


@pytest.mark.parametrize("normalized", [True, False])
def test_added_tokens_are_kept_whole(normalized: bool):
    tokenizer_json = with_added_token("[unused0]", normalized=normalized)
    for text in ("one [unused0] two", "one [UNUSED0] two", "one two"):
        assert word_pieces(tokenizer_json)(text) == library_ids(tokenizer_json, text)


def test_a_tokenizer_that_splits_otherwise_goes_by_the_library():
    other = Tokenizer.from_buffer(REAL)
    other.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer_json = other.to_str().encode()
    assert word_pieces(tokenizer_json)("well-known.") == library_ids(tokenizer_json, "well-known.")
