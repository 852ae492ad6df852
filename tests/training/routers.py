"""Routers without a fit: where only the cascade over given log-odds matters."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from turnout.serving.router.exit_band import ExitBand
from turnout.serving.router.features import N_BUCKETS, STRUCTURAL
from turnout.training.fit.calibrators import LogitLine
from turnout.training.fit.fit import Head, LinearRouter, Scaler
from turnout.training.fit.router import FittedRouter, HeadLogOdds
from turnout.training.policy.policy import PolicyRows

IDENTITY = LogitLine("none", 1.0, 0.0)


def plain_router(exit_band: float) -> FittedRouter:
    """Return a router of weight zero: what it says of `HeadLogOdds` depends on the band alone."""
    scaler = Scaler(np.ones(N_BUCKETS, np.float32), *[np.zeros(len(STRUCTURAL), np.float32)] * 2, 0.5, 1.0)
    weights = (np.zeros((size, 1), np.float32) for size in (N_BUCKETS, len(STRUCTURAL)))
    head = Head(*weights, None, np.zeros(1, np.float32), np.array([False]))
    return FittedRouter(LinearRouter(scaler, head, head), IDENTITY, IDENTITY, ExitBand.constant(exit_band))


def draw_rows(
    n_groups: int, rng: np.random.Generator, *, rows_per_group: int = 1, noise: float = 0.3, optimism: float = 0.0
) -> PolicyRows:
    """Return rows whose match is drawn from the full head's probability, less `optimism` in log-odds.

    All rows of a group are the same row, as near as duplicates get.
    """
    full = rng.normal(2.5, 1.3, n_groups)
    match = (rng.random(n_groups) < expit(full - optimism)).astype(np.int64)
    strong = np.where(match == 0, 1.0, (rng.random(n_groups) < 0.8).astype(float))
    fast = full + rng.normal(0, noise, n_groups)
    fast, full, match, strong = (np.repeat(column, rows_per_group) for column in (fast, full, match, strong))
    return PolicyRows(
        heads=HeadLogOdds(fast, full),
        match=match,
        strong_score=strong,
        weak_score=np.where(match == 0, 0.0, strong),
        group=np.repeat(np.arange(n_groups), rows_per_group),
    )
