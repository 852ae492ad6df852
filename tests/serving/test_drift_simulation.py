"""The promise of the drift metrics on made-up traffic: silent without a shift, and soon there with one.

On real rows, and longer: `python -m tests.bench.drift`.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.drift_builders import made_up_baseline, traffic
from turnout.serving.bundles.baseline import Baseline
from turnout.serving.bundles.limits import MIN_ROWS, psi_reading
from turnout.serving.observe.drift.window import WINDOW, RequestWindow

SEEN_WITHIN = 600


def values(rng: np.random.Generator, n: int, shift: float = 0.0) -> np.ndarray:
    p_match, structural = traffic(rng, n, shift)
    return np.column_stack((p_match, structural, np.zeros(n)))


def n_beyond(window: RequestWindow) -> int:
    """Return how many PSIs are beyond their limit."""
    measured = zip(window.baseline.bins[:-1], window.counts(), strict=False)
    return sum(psi_reading(bins.name, bins.n, counts).is_beyond for bins, counts in measured)


@pytest.mark.parametrize(("size", "measured_on"), [(MIN_ROWS, 300), (MIN_ROWS, 4000), (WINDOW, 4000)])
def test_windows_without_a_shift_are_within_every_limit_however_small(size: int, measured_on: int):
    rng = np.random.default_rng(1)
    found = 0
    for seed in range(40):
        window = RequestWindow(made_up_baseline(seed, measured_on))
        for _ in range(5):
            fresh = RequestWindow(window.baseline)
            fresh.add(values(rng, size))
            found += n_beyond(fresh)
    # 200 windows with 14 measures that vary, each beyond in 1 of 10,000: 0.3 are expected, and 3 in one run of 300.
    assert found <= 1


@pytest.mark.parametrize("seed", range(5))
def test_a_shift_of_half_a_standard_deviation_is_seen_within_some_hundred_requests(seed: int):
    baseline: Baseline = made_up_baseline()
    rng = np.random.default_rng(seed)
    window = RequestWindow(baseline)
    window.add(values(rng, WINDOW))
    assert n_beyond(window) == 0
    seen = next(n for n in range(50, WINDOW + 1, 50) if _after(window, rng))
    assert seen <= SEEN_WITHIN


def _after(window: RequestWindow, rng: np.random.Generator) -> bool:
    window.add(values(rng, 50, shift=0.5))
    return n_beyond(window) > 0
