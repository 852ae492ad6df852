import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from turnout.training.evaluation import baselines, metrics
from turnout.training.evaluation.metrics import Ranking

MATCH = np.array([1, 0, 1, 1, 0, 1])
STRONG = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 0.0])
WEAK = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 1.0])


def curve_of(baseline):
    return metrics.quality_curve(Ranking.of(baseline.rank_by), STRONG, WEAK)


def test_fixed_routes_and_random_rank_nothing():
    for baseline in (baselines.always_weak(6), baselines.always_strong(6), baselines.random(MATCH)):
        assert metrics.apgr(curve_of(baseline)) == pytest.approx(0.5)
        assert metrics.auroc(Ranking.of(baseline.rank_by), MATCH.astype(float)) == pytest.approx(0.5)


def test_random_claims_no_probability():
    """Its constant is the match rate of the rows it is judged on: an ECE of 0 by construction."""
    assert not baselines.random(MATCH).is_probability


def test_prompt_length_sends_the_short_ones_weak_first():
    baseline = baselines.prompt_length(np.array([10.0, 500.0, 20.0]))
    assert np.argsort(-baseline.rank_by).tolist() == [0, 2, 1]
    assert not baseline.is_probability


def test_oracle_uses_the_strong_model_exactly_where_it_helps():
    curve = curve_of(baselines.oracle(STRONG, WEAK))
    # two of six rows need the strong model; on one the weak model alone is right
    assert curve.at(np.array([2 / 6]))[0] == pytest.approx(5 / 6)


def test_no_ranking_beats_the_oracle_anywhere():
    rng = np.random.default_rng(0)
    oracle = curve_of(baselines.oracle(STRONG, WEAK)).at(metrics.SHARE_GRID)
    for _ in range(50):
        other = metrics.quality_curve(Ranking.of(rng.random(6)), STRONG, WEAK).at(metrics.SHARE_GRID)
        assert np.all(oracle >= other - 1e-12)


def test_standard_baselines_are_the_five_of_every_evaluation():
    found = baselines.standard_baselines(MATCH, STRONG, WEAK, np.arange(6.0))
    assert list(found) == ["always_weak", "always_strong", "random", "prompt_length", "oracle"]
    assert all(baseline.rank_by.shape == (6,) for baseline in found.values())


def test_dense_baseline_learns_what_the_vectors_show():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(600, 8)).astype(np.float32)
    match = (rng.random(600) < 1 / (1 + np.exp(-2 * vectors[:, 0]))).astype(np.int64)
    p_match = baselines.dense_logistic_baseline(vectors[:400], match[:400], vectors[400:])
    assert p_match.dtype == np.float64
    assert np.all((p_match > 0) & (p_match < 1))
    assert roc_auc_score(match[400:], p_match) > 0.7


def test_dense_baseline_with_one_class_says_that_class():
    vectors = np.zeros((3, 2))
    assert baselines.dense_logistic_baseline(vectors, np.ones(3, dtype=np.int64), vectors[:2]).tolist() == [1.0, 1.0]
