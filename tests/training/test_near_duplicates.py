"""Near-duplicates: the pairs that sets of strings and rensa's own index give, in a fraction of their memory."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rensa import RMinHash, RMinHashLSH

from turnout.training.dataset.near_duplicates import (
    JACCARD,
    N_BANDS,
    N_PERMUTATIONS,
    SEED,
    near_duplicates,
    repeated_rows,
    signatures,
)
from turnout.training.dataset.shingles import ShingleFile, shingle_file, shingle_hashes
from turnout.training.dataset.templates import MIN_TEMPLATE_ROWS, TEMPLATE_SHARE, find_templates
from turnout.training.errors import DataRefused

SENTENCES = st.lists(st.lists(st.sampled_from("abcdef"), max_size=9).map(" ".join), max_size=60)


def families(rng: random.Random, n_families: int, n_rows: int, changed: range) -> list[str]:
    """Return texts of 80 words, of which the rows of a family share all but `changed`, in random order."""
    texts = []
    for _ in range(n_families):
        base = [f"w{rng.randrange(10**6)}" for _ in range(80)]
        for _ in range(n_rows):
            words = list(base)
            for place in rng.sample(range(80), rng.choice(changed)):
                words[place] = f"x{rng.randrange(10**6)}"
            texts.append(" ".join(words))
    rng.shuffle(texts)
    return texts


def shingles_of(text: str) -> set[str]:
    """Return the shingles as one would write them down: of words parted by single blanks."""
    words = text.split()
    return {" ".join(words[start : start + 3]) for start in range(max(1, len(words) - 2))} if words else set()


def overlap(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)


def without_templates(shingles: list[set[str]]) -> list[set[str]]:
    limit = max(MIN_TEMPLATE_ROWS, TEMPLATE_SHARE * len(shingles))
    counts = Counter(shingle for row in shingles for shingle in row)
    return [{shingle for shingle in row if counts[shingle] <= limit} for row in shingles]


def pairs_by_index(texts: list[str]) -> list[tuple[int, int]]:
    """Return the pairs that sets of strings and rensa's index give."""
    shingles = without_templates([shingles_of(text) for text in texts])
    index, pairs = RMinHashLSH(threshold=JACCARD, num_perm=N_PERMUTATIONS, num_bands=N_BANDS), []
    for row, ours in enumerate(shingles):
        if not ours:
            continue
        signature = RMinHash(num_perm=N_PERMUTATIONS, seed=SEED)
        signature.update(sorted(ours))
        near = (other for other in index.query(signature) if overlap(ours, shingles[other]) >= JACCARD)
        if (first := next(near, None)) is not None:
            pairs.append((first, row))
        index.insert(row, signature)
    return pairs


@pytest.mark.parametrize("seed", range(3))
def test_pairs_are_those_of_sets_of_strings_in_an_index(seed: int):
    rng = random.Random(seed)
    texts = [*families(rng, 40, 9, range(4)), "", "one", "two words", "one", *families(rng, 1, 60, range(1))]
    pairs = list(near_duplicates(texts))
    assert pairs == pairs_by_index(texts)
    assert len(pairs) > 100


@given(SENTENCES)
@settings(max_examples=60)
def test_a_twin_is_always_found_and_every_pair_overlaps_enough(texts: list[str]):
    shingles = without_templates([shingles_of(text) for text in texts])
    earlier = {later: first for first, later in near_duplicates(texts)}
    for row, ours in enumerate(shingles):
        assert row in earlier or not ours or ours not in shingles[:row]
        assert row not in earlier or overlap(ours, shingles[earlier[row]]) >= JACCARD
        assert earlier.get(row, -1) < row


@given(st.lists(st.text(max_size=40), max_size=20))
@settings(max_examples=40)
def test_any_text_whatever_pairs_with_earlier_rows_only(texts: list[str]):
    pairs = list(near_duplicates(texts * 2))
    assert all(first < later for first, later in pairs)
    assert len(pairs) == len({later for _, later in pairs})


@given(SENTENCES, st.integers(1, 40))
@settings(max_examples=60)
def test_templates_are_the_same_however_few_shingles_are_counted_at_a_time(texts: list[str], counted: int):
    limit = max(MIN_TEMPLATE_ROWS, TEMPLATE_SHARE * len(texts))
    counts = Counter(shingle for text in texts for shingle in shingles_of(text))
    expected = sorted(RMinHash.hash_token_sets([[shingle for shingle, n in counts.items() if n > limit]])[0])
    with shingle_file() as shingles:
        for start in range(0, len(texts), 7):
            shingles.add(shingle_hashes(texts[start : start + 7]))
        assert find_templates(shingles, counted).tolist() == expected


def test_templates_in_many_blocks_are_counted_exactly(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("turnout.training.dataset.shingles.BLOCK_HASHES", 500)
    rng = random.Random(1)
    often, seldom = ("as it is known in 12", "as it is known in 10")
    texts = [f"{often if row < 12 else seldom if row < 22 else ''} {rng.random()} {rng.random()}" for row in range(900)]
    rng.shuffle(texts)
    with shingle_file() as shingles:
        shingles.add(shingle_hashes(texts))
        found = [find_templates(shingles, counted).tolist() for counted in (1, 1 << 16)]
    counts = Counter(shingle for text in texts for shingle in shingles_of(text.replace(".", " ")))
    frequent = [shingle for shingle, n in counts.items() if n > MIN_TEMPLATE_ROWS]
    assert "known in 12" in frequent
    assert "known in 10" not in frequent
    assert found == [sorted(RMinHash.hash_token_sets([frequent])[0])] * 2


def test_signatures_are_those_of_the_library_row_by_row():
    texts = ["Why is it so?", "", "why IS it", "one"]
    with shingle_file() as shingles:
        shingles.add(shingle_hashes(texts))
        (found,) = signatures(shingles, np.empty(0, np.uint64))
    for minima, raw, words in zip(
        found.minima, found.as_bytes(), (["why is it", "is it so"], [], ["why is it"], ["one"]), strict=True
    ):
        signature = RMinHash(num_perm=N_PERMUTATIONS, seed=SEED)
        signature.update(words)
        assert minima.tolist() == signature.digest()
        assert raw == (np.array(signature.digest(), "<u4").tobytes() if words else None)


def test_a_further_row_takes_at_most_200_bytes_of_memory_however_long_its_text(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("turnout.training.dataset.shingles.BLOCK_HASHES", 10_000)

    def peak_bytes(rows: int) -> int:
        tracemalloc.start()
        with shingle_file() as shingles:
            shingles.add(shingle_hashes(long_texts(rows)))
            earlier = repeated_rows(shingles, find_templates(shingles, 1000))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (earlier >= 0).sum() == rows // 2
        return peak

    peak_bytes(10)  # what the first call imports is no row's
    assert peak_bytes(1800) - peak_bytes(600) <= 200 * 1200


def long_texts(rows: int) -> Iterator[str]:
    """Yield texts of 60 words, whose shingles take 480 bytes on disk; every second repeats the one before."""
    rng = random.Random(0)
    for _ in range(rows // 2):
        words = [f"w{rng.randrange(10**6)}" for _ in range(60)]
        yield " ".join(words)
        yield " ".join([*words, "please"])


def test_a_full_disk_is_refused_with_what_to_do():
    with (
        Path("/dev/full").open("w+b", buffering=0) as full,
        pytest.raises(DataRefused, match=r"^here: .*No space left.*TMPDIR"),
    ):
        ShingleFile(full, "here").add(shingle_hashes(["Why is it so?"]))
