"""Features: the hash, the counts, the measures and the bounds, each computed again in plain Python."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import tiny_tokenizer
from turnout.serving.router.features import (
    HEAD_CHARS,
    LEXICAL_HEAD,
    LEXICAL_TAIL,
    N_BUCKETS,
    STRUCTURAL,
    TAIL_CHARS,
    Featurizer,
    hash_ngrams,
    head_and_tail,
    structural_features,
)
from turnout.serving.router.prompt import Prompt, prompt_from_text

MAX_TOKENS = 16
CLS, SEP = 2, 3
WORD, HELLO = 4, 5


@pytest.fixture(scope="module")
def featurize() -> Featurizer:
    return Featurizer(tiny_tokenizer(), MAX_TOKENS)


def reference_buckets(ids: list[int]) -> dict[int, int]:
    """Hash unigrams and bigrams one by one, in integers without a size."""
    keys = ids + [(first + 1) * 2**15 + second for first, second in pairwise(ids)]
    return Counter((key * 2654435769 % 2**32) // 2**14 for key in keys)


def measures(text: str, n_tokens: int = 1, **fields: object) -> dict[str, float]:
    values = structural_features(Prompt(text, **fields), text, n_tokens)
    return dict(zip(STRUCTURAL, values.tolist(), strict=True))


@given(st.lists(st.integers(0, 32_767), max_size=300))
def test_buckets_are_those_of_the_reference(ids: list[int]):
    buckets, counts = hash_ngrams(np.array(ids, dtype=np.int64))
    assert dict(zip(buckets.tolist(), counts.tolist(), strict=True)) == reference_buckets(ids)


@given(st.lists(st.integers(0, 32_767), max_size=300))
def test_buckets_ascend_within_range_and_count_every_ngram(ids: list[int]):
    buckets, counts = hash_ngrams(np.array(ids, dtype=np.int64))
    assert (buckets.dtype, counts.dtype) == (np.int64, np.float32)
    assert (np.diff(buckets) > 0).all()
    assert ((buckets >= 0) & (buckets < N_BUCKETS)).all()
    assert counts.sum() == max(0, 2 * len(ids) - 1)


def test_hash_of_one_id_is_the_hand_value():
    # 7 * 2654435769 = 18581050383; modulo 2**32 it is 1401181199; its upper 18 bits are 85521.
    buckets, counts = hash_ngrams(np.array([7]))
    assert (buckets.tolist(), counts.tolist()) == ([85521], [1.0])


def test_order_of_words_matters(featurize: Featurizer):
    one, other = (featurize(Prompt(text)).buckets for text in ("hello word the", "the word hello"))
    assert not np.array_equal(one, other)


def test_token_ids_are_framed_and_read_whole_when_short(featurize: Featurizer):
    features = featurize(Prompt("Hello word"))
    assert features.token_ids.dtype == np.int64
    assert features.token_ids.tolist() == [CLS, HELLO, WORD, SEP]


@pytest.mark.parametrize("n", [0, 1, 13, 14, 15, 16, 500])
def test_long_prompts_keep_head_and_tail_for_the_encoder(featurize: Featurizer, n: int):
    pieces = [HELLO if index % 3 else WORD for index in range(n)]
    ids = featurize(Prompt(" ".join("hello" if piece == HELLO else "word" for piece in pieces))).token_ids.tolist()
    # Fourteen fit between the frame: eleven of the head and three of the tail.
    body = pieces if n <= 14 else pieces[:11] + pieces[-3:]
    assert ids == [CLS, *body, SEP]
    assert len(ids) <= MAX_TOKENS


def test_lexical_part_reads_head_and_tail_of_very_long_prompts(featurize: Featurizer):
    pieces = LEXICAL_HEAD + LEXICAL_TAIL
    inside = featurize(Prompt("a " * pieces))
    assert inside.counts.sum() == 2 * pieces - 1
    assert featurize(Prompt("a " * (pieces + 700))).counts.sum() == 2 * pieces - 1


@pytest.mark.parametrize("n", [0, 1, HEAD_CHARS + TAIL_CHARS])
def test_text_within_the_bounds_is_read_whole(n: int):
    text = "é" * n
    assert head_and_tail(text) is text


@pytest.mark.parametrize("n", [HEAD_CHARS + TAIL_CHARS + 1, 100_000])
def test_longer_text_is_read_at_both_ends(n: int):
    text = "".join(chr(0x4E00 + index % 5000) for index in range(n))
    read = head_and_tail(text)
    assert len(read) == HEAD_CHARS + TAIL_CHARS + 1
    assert (read[:HEAD_CHARS], read[HEAD_CHARS], read[-TAIL_CHARS:]) == (text[:HEAD_CHARS], "\n", text[-TAIL_CHARS:])


def test_what_stands_in_the_middle_of_a_long_prompt_changes_only_its_length(featurize: Featurizer):
    ends = "a " * (HEAD_CHARS // 2)
    one, other = (featurize(Prompt(ends + middle + ends)) for middle in ("hello " * 9, "word? " * 9))
    for name in ("token_ids", "buckets", "counts", "structural"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"log_bytes": 0, "digit_share": 0, "pieces_per_word": 1}),
        ("abCD12?!", {"digit_share": 2 / 8, "upper_share": 2 / 8, "log_questions": math.log(2), "math_share": 0}),
        ("é🚆ab", {"non_ascii_share": 2 / 4, "log_bytes": math.log(1 + 2 + 4 + 2)}),
        ("a+b*c=d", {"math_share": 3 / 7, "code_share": 0}),
        ("f[0]; # x_1", {"code_share": 5 / 11, "digit_share": 2 / 11}),
        ("one\ntwo\n\nthree", {"log_lines": math.log(4), "pieces_per_word": 1 / 3}),
        ("You must use exactly two, at most; never MORE", {"log_constraints": math.log(5)}),
        ("mustard, lonely and forever", {"log_constraints": 0}),
        (
            "Which?\n(A) tin\n B. lead\nc) zinc\nKept: no\nAB) no",
            {"log_choices": math.log(4), "log_questions": math.log(2)},
        ),
    ],
)
def test_measures_are_those_counted_by_hand(text: str, expected: dict[str, float]):
    found = measures(text)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_measures_of_the_request_come_from_outside_the_text():
    found = measures("hi", turns=3, tools=2, images=1, wants_json=True)
    expected = {
        "log_turns": math.log(3),
        "log_tools": math.log(3),
        "log_images": math.log(2),
        "wants_json": 1.0,
        "log_tokens": math.log(2),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert {name: measures("hi")[name] for name in ("log_turns", "log_tools", "log_images", "wants_json")} == {
        "log_turns": 0,
        "log_tools": 0,
        "log_images": 0,
        "wants_json": 0,
    }


def test_length_in_bytes_is_that_of_the_whole_prompt(featurize: Featurizer):
    structural = featurize(Prompt("a" * 50_000)).structural
    assert structural[list(STRUCTURAL).index("log_bytes")] == pytest.approx(math.log(50_001), rel=1e-6)


@given(text=st.text(st.characters(exclude_categories=()), max_size=300))
@settings(max_examples=150, deadline=None)
def test_any_text_has_finite_features(featurize: Featurizer, text: str):
    features = featurize(prompt_from_text(text))
    assert 2 <= features.token_ids.size <= MAX_TOKENS
    assert features.buckets.size == features.counts.size
    assert (features.counts >= 1).all()
    assert features.structural.shape == (len(STRUCTURAL),)
    assert features.structural.dtype == np.float32
    assert np.isfinite(features.structural).all()


@given(text=st.text(max_size=200))
@settings(max_examples=50, deadline=None)
def test_same_text_has_the_same_features(featurize: Featurizer, text: str):
    one, other = featurize(Prompt(text)), Featurizer(tiny_tokenizer(), MAX_TOKENS)(Prompt(text))
    for name in ("token_ids", "buckets", "counts", "structural"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("text", ["\0\0", "\0 a", "🚆" * 9000, "a" * 2_000_000])
def test_odd_texts_are_accepted(featurize: Featurizer, text: str):
    assert np.isfinite(featurize(Prompt(text)).structural).all()
