"""The solver against scikit-learn's, which has the whole matrix sparse and another method."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack, random_array
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from turnout.training.fit.solver import Design, SparseBlock, fit_logistic


def blocks(n: int, seed: int, common: float = 1.0) -> tuple[csr_matrix, NDArray[np.float32]]:
    """Return sparse rows of unit length and dense ones that mostly point one way, as an encoder's do."""
    rng = np.random.default_rng(seed)
    sparse = csr_matrix(random_array((n, 400), density=0.03, rng=rng, format="csr"))
    length = np.sqrt(np.asarray(sparse.power(2).sum(axis=1)).ravel())
    sparse = csr_matrix(sparse.multiply(1.0 / np.maximum(length, 1e-9)[:, None]))
    dense = rng.normal(size=(n, 24)) + common * 5.0 * rng.normal(size=24)
    return sparse, (dense / np.linalg.norm(dense, axis=1, keepdims=True)).astype(np.float32)


def outcomes(sparse: csr_matrix, dense: NDArray[np.float32], k: int, seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    logits = sparse @ rng.normal(size=(400, k)) * 2 + dense @ rng.normal(size=(24, k)) * 4 + rng.normal(size=k)
    if k == 1:
        return (rng.random(dense.shape[0]) < expit(logits[:, 0])).astype(np.int64)
    return np.array([rng.choice(k, p=row) for row in softmax(logits, axis=1)])


def reference(
    sparse: csr_matrix, dense: NDArray[np.float32], y: NDArray[np.int64], c: float, weight: NDArray[np.float64] | None
) -> LogisticRegression:
    both = hstack([sparse, csr_matrix(dense)], format="csr")
    return LogisticRegression(C=c, solver="newton-cg", tol=1e-8, max_iter=500).fit(both, y, sample_weight=weight)


@pytest.mark.slow
@pytest.mark.parametrize("c", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_coefficients_are_those_of_scikit_learn(k: int, c: float, weighted: bool) -> None:
    sparse, dense = blocks(1500, 0)
    y = outcomes(sparse, dense, k, 1)
    weight = np.random.default_rng(2).uniform(0.1, 5.0, y.size) if weighted else None
    target = y[:, None].astype(float) if k == 1 else np.eye(k)[y]
    found = fit_logistic(Design.of(SparseBlock.of(sparse), dense), target, c, weight=weight, tolerance=1e-6)
    expected = reference(sparse, dense, y, c, weight)
    ours = np.vstack([found.sparse, found.dense[:-1]]).T
    assert np.abs(ours - expected.coef_).max() < 5e-3 * np.abs(expected.coef_).max()
    # Intercepts of all outcomes may move together: nothing depends on that.
    moved = found.dense[-1] - expected.intercept_
    assert np.abs(moved - (moved.mean() if k > 1 else 0.0)).max() < 2e-2


def test_the_default_tolerance_ranks_as_an_exact_fit_does() -> None:
    sparse, dense = blocks(3000, 3)
    y = outcomes(sparse, dense, 1, 4)
    design = Design.of(SparseBlock.of(sparse[:2000]), dense[:2000])
    scores = []
    for tolerance in (1e-7, None):
        given = {} if tolerance is None else {"tolerance": tolerance}
        found = fit_logistic(design, y[:2000, None].astype(float), 1.0, **given)
        scores.append((sparse[2000:] @ found.sparse + dense[2000:] @ found.dense[:-1])[:, 0])
    assert roc_auc_score(y[2000:], scores[1]) == pytest.approx(roc_auc_score(y[2000:], scores[0]), abs=1e-3)


def test_a_soft_target_is_the_weighted_mean_of_its_outcomes() -> None:
    sparse, dense = blocks(600, 5)
    share = softmax(np.random.default_rng(6).normal(size=(600, 3)), axis=1)
    design = Design.of(SparseBlock.of(sparse), dense)
    soft = fit_logistic(design, share, 1.0, tolerance=1e-6)
    row, outcome = np.divmod(np.arange(1800), 3)
    apart = Design.of(SparseBlock.of(sparse[row]), dense[row])
    said = fit_logistic(apart, np.eye(3)[outcome], 1.0, weight=share.ravel(), tolerance=1e-6)
    np.testing.assert_allclose(soft.sparse, said.sparse, atol=5e-3)


def test_where_it_starts_does_not_decide_where_it_ends() -> None:
    sparse, dense = blocks(1000, 7)
    y = outcomes(sparse, dense, 4, 8)
    design = Design.of(SparseBlock.of(sparse), dense)
    cold = fit_logistic(design, np.eye(4)[y], 2.0, tolerance=1e-6)
    near = fit_logistic(design, np.eye(4)[y], 1.0, tolerance=1e-6)
    warm = fit_logistic(design, np.eye(4)[y], 2.0, start=near, tolerance=1e-6)
    np.testing.assert_allclose(warm.sparse, cold.sparse, atol=5e-3)


def test_evaluations_do_not_grow_with_the_rows() -> None:
    counts = []
    for n in (1000, 16000):
        sparse, dense = blocks(n, 9, common=4.0)
        y = outcomes(sparse, dense, 4, 10)
        counts.append(fit_logistic(Design.of(SparseBlock.of(sparse), dense), np.eye(4)[y], 1.0).n_evaluations)
    assert counts[1] <= 2 * counts[0]
