"""Solver: the router's ridge-penalised logistic regression, with the dense block kept outside the sparse matrix.

Comes in: a sparse block, a dense block and targets. Goes out: `Solution`, the coefficients that scikit-learn's
`LogisticRegression` on both blocks together has, within its tolerance.

The loss is `sum_i w_i * loss_i + |W|^2 / (2 C)`, intercepts unpenalised. L-BFGS minimises it, in single precision and
in other coordinates: the dense columns and the intercept by a Cholesky factor of an estimate of their block of the
Hessian, the sparse ones by the root of its diagonal. Without that, the number of steps grows with the rows, since the
dense vectors all point the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.sparse import csc_matrix, csr_matrix
from scipy.special import expit, log_expit

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

TOLERANCE = 1e-4
"""Largest entry of the gradient of the mean loss at which the fit ends: what LogisticRegression asks for."""

MAX_STEPS = 300
MEMORY = 5
"""Pairs of steps and gradients that L-BFGS keeps."""

CURVATURE = 0.05
"""Of the curvature at the base rates, what the factors assume: the answers spread, and 16,600 reference rows take 28
evaluations so, 42 at 0.5 and 68 at 1."""

ADDED_AT_ONCE = 1 << 22
ARMIJO = 1e-4
SHORTEST_STEP = 1e-6


@dataclass(frozen=True)
class SparseBlock:
    """The sparse features of n rows.

    Attributes:
        rows: (n, p) float32.
        columns: (p, n) float32, a view of the same transposed. A copy by column takes as much memory again, and is 3 %
            faster at 100,000 rows and slower with more, whose residuals no cache holds.
        squares: (p,) sum of squares of each column.
    """

    rows: csr_matrix
    columns: csc_matrix
    squares: Floats

    @classmethod
    def of(cls, rows: csr_matrix) -> SparseBlock:
        """Return the block of an (n, p) matrix."""
        single = csr_matrix(rows, dtype=np.float32)
        squares = np.zeros(single.shape[1])
        for start in range(0, single.nnz, ADDED_AT_ONCE):  # all of them in double precision would be large
            some = slice(start, start + ADDED_AT_ONCE)
            squares += np.bincount(single.indices[some], single.data[some].astype(np.float64) ** 2, squares.size)
        return cls(single, single.T, squares)


class Matrix(Protocol):
    """What the fit asks of a block."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    @property
    def T(self) -> Any:  # noqa: N802
        """The same transposed."""

    def __matmul__(self, other: Any, /) -> Any:
        """Return the product with an array."""


@dataclass(frozen=True)
class Design:
    """The features of n rows, whatever is fitted on them later.

    Attributes:
        sparse: n rows of p columns.
        dense: (n, q) float32, its last column 1 for the intercept; an array, or what multiplies as one.
        gram: (q, q) inner products of the dense columns.
    """

    sparse: SparseBlock
    dense: Matrix
    gram: Floats

    @classmethod
    def of(cls, sparse: SparseBlock, dense: NDArray[np.floating]) -> Design:
        """Return the design of both blocks, the intercept's column added."""
        wide = np.ones((dense.shape[0], dense.shape[1] + 1), np.float32)
        wide[:, :-1] = dense
        return cls(sparse, wide, np.asarray(wide.T @ wide, dtype=np.float64))

    def logits(self, sparse_part: Singles, dense_part: Singles) -> Singles:
        """Return (n, k) for coefficients (p, k) and (q, k)."""
        return np.asarray(self.sparse.rows @ sparse_part + self.dense @ dense_part, dtype=np.float32)


@dataclass(frozen=True)
class Solution:
    """A fitted regression; k is 1 where the target is binary, else the number of outcomes.

    Attributes:
        sparse: (p, k) float32.
        dense: (q, k) float32, its last row the intercept.
        n_evaluations: of loss and gradient.
        gradient: largest entry of the gradient of the mean loss where the fit ended.
    """

    sparse: Singles
    dense: Singles
    n_evaluations: int
    gradient: float


def fit_logistic(
    design: Design,
    target: Floats,
    c: float,
    *,
    weight: Floats | None = None,
    start: Solution | None = None,
    tolerance: float = TOLERANCE,
) -> Solution:
    """Fit a binary or a multinomial regression.

    Args:
        design: features of n rows.
        target: (n, k) share of each outcome, rows summing to 1; (n, 1) the share of 1 where k is 1.
        c: inverse regularisation, as LogisticRegression has it.
        weight: (n,) non-negative; equal when None.
        start: coefficients to begin with, such as those at another `c`; zeros when None.
        tolerance: largest entry of the gradient of the mean loss to end at.

    Raises:
        RuntimeError: the loss is not finite.
    """
    weights = np.ones(target.shape[0]) if weight is None else weight
    problem = _Problem(design, target.astype(np.float32), weights.astype(np.float32), c, _spread(target, weights))
    inner, n_evaluations = minimise(problem, problem.shrunk(*_beginning(problem, start)), tolerance)
    sparse, dense = problem.grown(inner)
    return Solution(sparse, dense, n_evaluations, problem.gradient)


def _beginning(problem: _Problem, start: Solution | None) -> tuple[Singles, Singles]:
    if start is not None:
        return start.sparse, start.dense
    k = problem.target.shape[1]
    dense = np.zeros((problem.design.dense.shape[1], k), np.float32)
    share = np.clip(np.average(problem.target, axis=0, weights=problem.weight), 1e-6, 1 - 1e-6)
    dense[-1] = np.log(share / (1 - share)) if k == 1 else np.log(share) - np.log(share).mean()
    return np.zeros((problem.design.sparse.rows.shape[1], k), np.float32), dense


def _spread(target: Floats, weight: Floats) -> Floats:
    """Return (k,) what a row adds to the curvature of each outcome: a share of its variance at the base rate."""
    share = np.average(target, axis=0, weights=weight)
    return CURVATURE * np.maximum(share * (1.0 - share), 1e-3)


def minimise(problem: _Problem, point: Singles, tolerance: float) -> tuple[Singles, int]:
    """Return where the loss is least, by L-BFGS with backtracking, and how often it was evaluated.

    Single precision ends a search too: where no step along the direction lowers the loss, the last point is returned.

    Raises:
        RuntimeError: the loss is not finite.
    """
    loss, gradient = problem.loss_and_gradient(point)
    steps: list[Singles] = []
    turns: list[Singles] = []
    n_evaluations, best = 1, problem.gradient
    for _ in range(MAX_STEPS):
        if problem.gradient <= tolerance:
            break
        direction = _direction(gradient, steps, turns)
        slope, length = float(np.vdot(gradient, direction)), 1.0
        while True:
            tried = point + np.float32(length) * direction
            tried_loss, tried_gradient = problem.loss_and_gradient(tried)
            n_evaluations += 1
            if tried_loss <= loss + ARMIJO * length * slope or length < SHORTEST_STEP:
                break
            length *= float(np.clip(-0.5 * slope * length / (tried_loss - loss - slope * length), 0.1, 0.5))
        if not np.isfinite(tried_loss):
            raise RuntimeError(f"the loss of the regression is {tried_loss} after {n_evaluations} evaluations")
        if tried_loss > loss:
            problem.gradient = best
            break
        step, turn = tried - point, tried_gradient - gradient
        if np.vdot(step, turn) > 0.0:
            steps, turns = [*steps[-MEMORY + 1 :], step], [*turns[-MEMORY + 1 :], turn]
        point, loss, gradient, best = tried, tried_loss, tried_gradient, problem.gradient
    return point, n_evaluations


def _direction(gradient: Singles, steps: list[Singles], turns: list[Singles]) -> Singles:
    """Return the descent direction of L-BFGS: its two loops over the kept pairs."""
    direction = -gradient
    pairs = [(step, turn, 1.0 / float(np.vdot(step, turn))) for step, turn in zip(steps, turns, strict=True)]
    shares = []
    for step, turn, inverse in reversed(pairs):
        share = np.float32(inverse * float(np.vdot(step, direction)))
        direction -= share * turn
        shares.append(share)
    if pairs:
        step, turn, inverse = pairs[-1]
        direction *= np.float32(1.0 / (inverse * float(np.vdot(turn, turn))))
    for (step, turn, inverse), share in zip(pairs, reversed(shares), strict=True):
        direction += (share - np.float32(inverse * float(np.vdot(turn, direction)))) * step
    return direction


class _Problem:
    """Loss and gradient in the coordinates in which the Hessian is near the identity."""

    def __init__(self, design: Design, target: Singles, weight: Singles, c: float, spread: Floats) -> None:
        self.design, self.target, self.weight, self.c = design, target, weight, c
        self.total = float(weight.sum(dtype=np.float64))
        mean_weight = self.total / target.shape[0]
        ridge = np.full(design.dense.shape[1], 1.0 / c)
        ridge[-1] = 1e-6 * self.total  # the intercept has none; this only keeps the factor well defined
        self.ridge = ridge.astype(np.float32)
        self.ridge[-1] = 0.0
        self.factors = [cholesky(one * mean_weight * design.gram + np.diag(ridge), lower=True) for one in spread]
        diagonal = 1.0 / c + mean_weight * np.outer(design.sparse.squares, spread)
        self.roots = np.sqrt(diagonal).astype(np.float32)
        self.gradient = np.inf

    def shrunk(self, sparse: Singles, dense: Singles) -> Singles:
        """Return coefficients in the inner coordinates."""
        inner = np.stack([one.T @ dense[:, k] for k, one in enumerate(self.factors)], axis=1)
        return np.concatenate([(sparse * self.roots).ravel(), inner.ravel()]).astype(np.float32)

    def grown(self, inner: Singles) -> tuple[Singles, Singles]:
        """Return the coefficients (p, k) and (q, k) of inner coordinates."""
        sparse, dense = self._parts(inner)
        outer = np.stack([_solve(one, dense[:, k], trans="T") for k, one in enumerate(self.factors)], axis=1)
        return sparse / self.roots, outer.astype(np.float32)

    def loss_and_gradient(self, inner: Singles) -> tuple[float, Singles]:
        sparse, dense = self.grown(inner)
        loss, residual = _loss(self.design.logits(sparse, dense), self.target, self.weight)
        of_sparse = self.design.sparse.columns @ residual + sparse / self.c
        of_dense = self.design.dense.T @ residual + self.ridge[:, None] * dense
        self.gradient = float(max(np.abs(of_sparse).max(initial=0.0), np.abs(of_dense).max())) / self.total
        penalty = 0.5 * (np.vdot(sparse, sparse) / self.c + np.vdot(dense, self.ridge[:, None] * dense))
        inner_dense = np.stack([_solve(one, of_dense[:, k]) for k, one in enumerate(self.factors)], axis=1)
        return loss + float(penalty), np.concatenate(
            [(of_sparse / self.roots).ravel(), inner_dense.astype(np.float32).ravel()]
        )

    def _parts(self, inner: Singles) -> tuple[Singles, Singles]:
        k = self.target.shape[1]
        cut = self.design.sparse.rows.shape[1] * k
        return inner[:cut].reshape(-1, k), inner[cut:].reshape(-1, k)


def _solve(factor: Floats, values: NDArray[np.floating], trans: str = "N") -> Floats:
    return np.asarray(solve_triangular(factor, values, lower=True, trans=trans, check_finite=False))


def _loss(logits: Singles, target: Singles, weight: Singles) -> tuple[float, Singles]:
    """Return the weighted sum of the losses and its gradient by the logits, (n, k)."""
    if logits.shape[1] == 1:
        z = logits.astype(np.float64)
        losses = -(target * log_expit(z) + (1.0 - target) * log_expit(-z))[:, 0]
        slope = expit(z) - target
    else:
        shifted = logits - logits.max(axis=1, keepdims=True)
        odds = np.exp(shifted)
        total = odds.sum(axis=1, keepdims=True)
        losses = (np.log(total) - (target * shifted).sum(axis=1, keepdims=True))[:, 0]
        slope = odds / total - target
    return float(weight.astype(np.float64) @ losses), (slope * weight[:, None]).astype(np.float32)
