"""What is rare in the fit part is counted exactly, and the limit lets through what it must."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix

from tests.training.runs import TrainingRun
from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.manifest import FORMAT_VERSION
from turnout.serving.router.features import N_BUCKETS, STRUCTURAL
from turnout.serving.router.prompt import prompt_from_text
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.fit.fit import FitSettings, fit_scaler, idf_of
from turnout.training.fit.unfamiliar import (
    MAX_FLAGGED,
    RARE_BELOW,
    Familiarity,
    fit_limit,
    rare_share,
    rare_weight,
    share_without_own_group,
)

N_WORDS = 12
STRANGE = "Kvůli nepřízni počasí byl trajekt odložen; žluťoučký kůň úpěl ďábelské ódy."


def table_of(rows: np.ndarray) -> FeatureTable:
    """Return a table whose first buckets are counted as in `rows`, (n, 12)."""
    counts = csr_matrix(rows.astype(np.float32))
    counts.resize((len(rows), N_BUCKETS))
    n = len(rows)
    return FeatureTable(counts, np.zeros((n, len(STRUCTURAL)), np.float32), np.ones((n, 2), np.float32))


@given(
    fit=arrays(np.int64, st.tuples(st.integers(1, 30), st.just(N_WORDS)), elements=st.integers(0, 2)),
    asked=arrays(np.int64, st.tuples(st.integers(1, 10), st.just(N_WORDS)), elements=st.integers(0, 3)),
)
@settings(max_examples=60, deadline=None)
def test_share_is_that_of_distinct_n_grams_in_fewer_than_three_fit_rows(fit: np.ndarray, asked: np.ndarray):
    scaler = fit_scaler(table_of(fit), FitSettings())
    shares = rare_share(scaler, rare_weight(len(fit)), table_of(asked))
    rows_with = [(fit[:, word] > 0).sum() for word in range(N_WORDS)]
    for row, share in zip(asked, shares, strict=True):
        words = [word for word in range(N_WORDS) if row[word] > 0]
        rare = [word for word in words if rows_with[word] < RARE_BELOW]
        assert share == pytest.approx(len(rare) / max(1, len(words)), abs=1e-7)


@given(
    rows=arrays(np.int64, st.tuples(st.integers(1, 20), st.just(N_WORDS)), elements=st.integers(0, 2)),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_share_without_the_own_group_is_that_of_a_count_without_it(rows: np.ndarray, seed: int):
    group = np.random.default_rng(seed).integers(0, 6, len(rows))
    found = share_without_own_group(table_of(rows), group)
    for row, own, share in zip(rows, group, found, strict=True):
        others = rows[group != own]
        words = [word for word in range(N_WORDS) if row[word] > 0]
        rare = [word for word in words if (others[:, word] > 0).sum() < RARE_BELOW]
        assert share == pytest.approx(len(rare) / max(1, len(words)), abs=1e-7)


@given(n_rows=st.integers(RARE_BELOW, 10_000_000))
def test_weight_of_the_rare_stands_between_two_and_three_rows(n_rows: int):
    seen_twice, seen_thrice = idf_of(np.array([RARE_BELOW - 1, RARE_BELOW]), n_rows).astype(np.float32)
    assert seen_thrice < rare_weight(n_rows) <= seen_twice


@given(arrays(np.float32, st.integers(1, 500), elements=st.floats(0, 1, width=32)))
def test_limit_is_the_least_that_flags_no_more_than_its_share(shares: np.ndarray):
    limit = fit_limit(shares)
    assert (shares > limit).mean() <= MAX_FLAGGED
    lower = shares[shares < limit]
    if lower.size:
        assert (shares > lower.max()).mean() > MAX_FLAGGED - 1 / shares.size


def test_prompt_without_n_grams_is_no_stranger():
    table = table_of(np.zeros((1, N_WORDS), np.int64))
    scaler = fit_scaler(table_of(np.ones((5, N_WORDS), np.int64)), FitSettings())
    familiarity = Familiarity(rare_weight(5), np.float32(0.0))
    assert not familiarity.is_out_of_distribution(scaler, table)[0]


def test_trained_bundle_knows_its_traffic_and_not_another_language(training_run: TrainingRun):
    bundle = load_bundle(training_run.bundle)
    rule = bundle.manifest.out_of_distribution
    assert bundle.manifest.format_version == FORMAT_VERSION
    assert rule.share_calibrate <= MAX_FLAGGED
    assert rule.share_test == training_run.trained.evaluation.share_out_of_distribution < 0.1
    assert bundle.model.predict(prompt_from_text(STRANGE), 0.5).is_out_of_distribution
    assert any(item.is_out_of_distribution for item in bundle.golden)
    assert "out of distribution" in (training_run.bundle / "card.md").read_text()
