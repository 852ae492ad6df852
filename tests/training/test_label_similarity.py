"""Agreement by embedding: a fitted threshold, or none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tests.log_builders import record
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.labels import label_records
from turnout.training.labels.similarity import cosines, fit_similarity
from turnout.training.logs.records import Record

SAME = (
    "Rain is expected in the north tomorrow, with strong wind.",
    "Tomorrow rain and strong wind are expected in the north.",
)
OTHER = (
    "Rain is expected in the north tomorrow, with strong wind.",
    "Boil the beans for an hour and add salt at the end.",
)


def rows(pairs: tuple[str, str], n: int, preference: str | None) -> list[Record]:
    return [record(f"Q{i}", strong=f"{pairs[0]} {i}", weak=f"{pairs[1]} {i}", preference=preference) for i in range(n)]


@pytest.mark.parametrize(("rate_above", "is_found"), [(1.0, True), (0.99, True), (0.9, False)])
def test_a_threshold_is_fitted_where_rows_above_it_match(rate_above: float, is_found: bool):
    rng = np.random.default_rng(0)
    cosine = np.concatenate([rng.uniform(0.9, 1, 2000), rng.uniform(0, 0.9, 2000)])
    match = (rng.uniform(size=4000) < np.where(cosine >= 0.9, rate_above, 0.6)).astype(np.int64)
    rule = fit_similarity(cosine, match)
    assert (rule is not None) == is_found
    if rule is not None:
        above = match[cosine >= rule.threshold]
        assert 0.8 <= rule.threshold <= 0.99
        assert binomtest(int(above.sum()), above.size).proportion_ci(0.8, "exact").low >= 0.97
        assert rule.confidence == (above.sum() + 1) / (above.size + 2)
        assert rule.label(rule.threshold).labeller == "agreement:similar"
        assert rule.label(rule.threshold - 0.001) is None


@given(st.integers(0, 299), st.integers(0, 2**32 - 1))
def test_few_rows_fit_nothing(n: int, seed: int):
    rng = np.random.default_rng(seed)
    assert fit_similarity(rng.uniform(-1, 1, n), rng.integers(0, 2, n)) is None


def test_a_cosine_that_says_nothing_fits_nothing():
    rng = np.random.default_rng(1)
    assert fit_similarity(rng.uniform(0.5, 1, 5000), (rng.uniform(size=5000) < 0.985).astype(np.int64)) is None


def test_the_promise_is_kept_in_nine_of_ten_draws():
    rng = np.random.default_rng(2)
    broken = 0
    for _ in range(200):
        cosine = rng.uniform(0.5, 1, 3000)
        true_rate = np.clip(0.5 + cosine / 2, 0, 1)
        rule = fit_similarity(cosine, (rng.uniform(size=3000) < true_rate).astype(np.int64), target=0.95)
        broken += rule is not None and (0.5 + (rule.threshold + 1) / 4) < 0.95
    assert broken <= 32  # 10 % of 200 and three standard errors


def test_rows_left_undecided_are_labelled_by_a_rule_fitted_on_the_others(encoder: EncoderModel):
    known = [*rows(SAME, 320, "tie"), *rows(OTHER, 60, "strong")]
    unknown = [*rows(SAME, 3, None), *rows(OTHER, 2, None)]
    assert label_records([*known, *unknown]).unlabelled == {"undecided": 5}
    found = label_records([*known, *unknown], similarity_encoder=encoder)
    assert found.by_labeller["agreement:similar"] == 3
    assert found.unlabelled == {"undecided": 2}


def test_without_known_rows_similarity_is_off(encoder: EncoderModel):
    assert label_records(rows(SAME, 3, None), similarity_encoder=encoder).unlabelled == {"undecided": 3}


def test_cosine_is_one_for_the_same_text_and_lower_for_another(encoder: EncoderModel):
    found = cosines([record(strong="a cat", weak="a cat"), *rows(SAME, 1, None), *rows(OTHER, 1, None)], encoder)
    assert found[0] == pytest.approx(1)
    assert found[0] > found[1] > found[2]
