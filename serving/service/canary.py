"""The canary: a challenger answers a share of the traffic, and is taken back when it does worse.

Worse means faults of its own, or being slower than the default bundle on the same traffic. Quality is not
judged here: no outcome is known yet. Each worker watches its own share.
"""

from __future__ import annotations

import statistics
from collections import deque

WINDOW = 200
"""Requests of each side that are looked at; old ones fall out, and fewer say nothing of times."""

CHECK_EVERY = 25
"""Requests between two comparisons of the times."""

MAX_FAULTS = 3
"""Faults in the window that end it: one may be chance, three among 200 are 1.5 %, and a sound bundle has none."""

MAX_SLOWDOWN = 2.0
"""Ratio of the geometric means of the times that ends it. Between windows of one and the same bundle, on a busy machine
of two cores and with a share of 5 %, it reached 1.5; that of the means 2.6, and that of the 90th percentiles, which
jump between the fast and the full head, 5.2."""


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
        self._times_ns[by_canary].append(max(model_ns, 1))
        self._since_check += 1
        if self._since_check >= CHECK_EVERY and self.verdict is None:
            self._since_check = 0
            self.verdict = self._slowness()

    def _slowness(self) -> str | None:
        canary, default = self._times_ns[True], self._times_ns[False]
        if min(len(canary), len(default)) < WINDOW:
            return None
        ratio = statistics.geometric_mean(canary) / statistics.geometric_mean(default)
        if ratio <= MAX_SLOWDOWN:
            return None
        return f"it takes {ratio:.1f} times as long as the default bundle, at most {MAX_SLOWDOWN} is allowed"
