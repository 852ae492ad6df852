"""Near-duplicates by hashed n-grams: complete, blind to templates, and never at the cost of the counts themselves."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from tests.training.digest_logs import unlike_texts
from turnout.serving.router.features import N_BUCKETS, hash_ngrams
from turnout.training.dataset.digests import near
from turnout.training.dataset.digests.near import JACCARD, near_rows
from turnout.training.dataset.templates import MIN_TEMPLATE_ROWS

SETS = st.lists(st.sets(st.integers(0, 40), max_size=12), max_size=30)


def counts_of(sets: list[set[int]]) -> csr_matrix:
    """Return a table whose rows hold these buckets, twice each."""
    indptr = np.cumsum([0, *map(len, sets)])
    indices = np.array([one for items in sets for one in sorted(items)], dtype=np.int64)
    return csr_matrix((np.full(indices.size, 2.0, np.float32), indices, indptr), shape=(len(sets), N_BUCKETS))


def overlapping(sets: list[set[int]]) -> set[tuple[int, int]]:
    """Return the pairs by comparing all with all."""
    rows_with = {one: sum(one in items for items in sets) for items in sets for one in items}
    kept = [{one for one in items if rows_with[one] <= MIN_TEMPLATE_ROWS} for items in sets]
    pairs = combinations(range(len(kept)), 2)
    return {
        (a, b) for a, b in pairs if kept[a] & kept[b] and len(kept[a] & kept[b]) / len(kept[a] | kept[b]) >= JACCARD
    }


@given(SETS)
def test_pairs_are_those_of_comparing_all_with_all(sets: list[set[int]]):
    assert set(near_rows(counts_of(sets))) == overlapping(sets)


def test_pairs_are_the_same_whatever_the_block(monkeypatch):
    rng = np.random.default_rng(0)
    sets = [set(rng.integers(0, 60, 8).tolist()) for _ in range(90)]
    expected = set(near_rows(counts_of(sets)))
    monkeypatch.setattr(near, "BLOCK", 7)
    assert set(near_rows(counts_of(sets))) == expected != set()


def test_counts_stay_as_they_were():
    counts = counts_of([{1, 2}] * (MIN_TEMPLATE_ROWS + 1))
    before = counts.copy()
    assert list(near_rows(counts)) == []
    assert counts.nnz == before.nnz
    assert (counts != before).nnz == 0


def test_texts_of_one_template_are_not_tied_and_those_that_say_the_same_are():
    template = " ".join(unlike_texts(1, seed=9, n_words=40))
    fillings = unlike_texts(60, seed=1, n_words=6)
    texts = [f"{template} {filling}" for filling in fillings] + [f"{template} {fillings[7]} please"]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(" ".join(texts).split()))}
    buckets = [set(hash_ngrams(np.array([vocabulary[word] for word in text.split()]))[0].tolist()) for text in texts]
    assert list(near_rows(counts_of(buckets))) == [(7, 60)]
