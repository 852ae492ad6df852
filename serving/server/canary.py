"""The canary: a challenger answers a share of the traffic, and is taken back when it does worse.

Worse means faults of its own, or being slower than the default bundle on the same traffic. Quality is not
judged here: no outcome is known yet. Each worker watches its own share.
"""

from __future__ import annotations

import statistics
from collections import deque

WINDOW = 200
"""Requests of each side that are looked at; old ones fall out."""

MIN_REQUESTS = 50
"""Before so many of each side, times say nothing."""

MAX_FAULTS = 3
"""Faults in the window that end it: one may be chance, three among 200 are 1.5 %, and a sound bundle has none."""

MAX_SLOWDOWN = 2.0
"""Ratio of the 90th percentiles that ends it. Halves of 400 calls to one and the same bundle, on a busy machine of
two cores, differed by up to 1.4."""


class CanaryWatch:
    """Compares the canary with the default bundle, over the last 200 requests of each.

    Attributes:
        verdict: why the canary is to be taken back; None while it is sound.
    """

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self.verdict: str | None = None
        self._faults: deque[bool] = deque(maxlen=WINDOW)
        self._times_ns: dict[bool, deque[int]] = {True: deque(maxlen=WINDOW), False: deque(maxlen=WINDOW)}
        self._since_check = 0

    def fault(self) -> None:
        """Take in a fault of the canary."""
        self._faults.append(True)
        if sum(self._faults) >= MAX_FAULTS:
            self.verdict = f"{MAX_FAULTS} faults among its last {len(self._faults)} requests"

    def answered(self, model_ns: int, *, by_canary: bool) -> None:
        """Take in the time, in nanoseconds, that the model took for an answer."""
        if by_canary:
            self._faults.append(False)
        self._times_ns[by_canary].append(model_ns)
        self._since_check += 1
        if self._since_check >= MIN_REQUESTS // 2 and self.verdict is None:
            self._since_check = 0
            self.verdict = self._slowness()

    def _slowness(self) -> str | None:
        canary, default = self._times_ns[True], self._times_ns[False]
        if min(len(canary), len(default)) < MIN_REQUESTS:
            return None
        ratio = _p90(canary) / max(_p90(default), 1.0)
        if ratio <= MAX_SLOWDOWN:
            return None
        return f"its p90 is {ratio:.1f} times that of the default bundle, at most {MAX_SLOWDOWN} is allowed"


def _p90(times_ns: deque[int]) -> float:
    return statistics.quantiles(times_ns, n=10)[8]
