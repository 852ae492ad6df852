"""Outcomes with a known truth, made from a seed."""

from dataclasses import replace

import numpy as np

from turnout.serving.router.features import STRUCTURAL
from turnout.training.evaluation.evaluate import Outcomes
from turnout.training.evaluation.threshold_table import ServedRows


def make_outcomes(n: int = 400, *, seed: int = 0, rows_per_group: int = 2, noise: float = 0.0) -> Outcomes:
    """Rows whose labels are drawn from `p_match` itself, as a perfect router has them but for `noise` in the logit."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(1.6, 1.2, n)
    match = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    strong = np.where(match == 0, 1.0, (rng.random(n) < 0.7).astype(float))
    weak = np.where(match == 0, 0.0, strong)
    seen = logit + rng.normal(0, noise, n)
    return Outcomes(
        p_match=1 / (1 + np.exp(-seen)),
        match=match,
        strong_score=strong,
        weak_score=weak,
        source=[f"source-{i % 3}" for i in range(n)],
        group=np.arange(n) // rows_per_group,
        prompt_length=rng.lognormal(5, 1, n).round(),
        task=["question answering" if i % 2 else "translation" for i in range(n)],
        is_full=rng.random(n) < 0.3,
        p_uncalibrated=1 / (1 + np.exp(-2 * seen)),
    )


def full_outcomes(n: int = 400, *, seed: int = 0) -> Outcomes:
    """The rows of `make_outcomes` with every column that a log may lack."""
    rng = np.random.default_rng(seed + 1)
    structural = rng.normal(1, 0.3, (n, len(STRUCTURAL))).astype(np.float32)
    structural[:, list(STRUCTURAL).index("log_images")] = 0
    return replace(
        make_outcomes(n, seed=seed),
        language=["en" if i % 3 else "hr" for i in range(n)],
        tokens=rng.lognormal(4, 1, n).round(),
        turns=1 + rng.poisson(1, n),
        confidence=np.where(rng.random(n) < 0.5, 1.0, 0.9),
        structural=structural,
    )


def served(outcomes: Outcomes, threshold: float = 0.93) -> ServedRows:
    """A service without early exit: `p_match` is the same at every threshold."""
    return ServedRows(threshold, (threshold, 0.8), lambda _: outcomes.p_match)
