"""Losses: the log loss of each row, and whether one model's is larger than another's on the same rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit


def row_losses(log_odds: NDArray[np.float64], match: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (n,) negative log likelihoods, in nats, of `match` (0 or 1) under log-odds of 1."""
    return np.asarray(-log_expit(np.where(match == 1, log_odds, -log_odds)), dtype=np.float64)


def paired_excess(
    loss: NDArray[np.float64], reference: NDArray[np.float64], group: NDArray[np.int64]
) -> tuple[float, float]:
    """Return the mean of `loss - reference` over (n,) rows and its standard error, groups being what is independent."""
    difference = loss - reference
    totals = np.bincount(group, weights=difference - difference.mean())
    return float(difference.mean()), float(np.sqrt((totals**2).sum()) / difference.size)
