"""What the supervisor itself counts, beside the counts of its workers: how they ended, and that it still turns.

Kept in the supervisor's memory and added at each scrape; a full disk costs none of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

from turnout.serving.observe.catalog import SUPERVISOR_BEAT, WORKER_ENDS, named

CAUSES = ("ended", "hung")


class SupervisorCounts:
    """A collector for the registry of the supervisor's exposition."""

    def __init__(self) -> None:
        """Begin at zero, all causes at once: an increase from nothing is not seen."""
        self._ends: Counter[str] = Counter(dict.fromkeys(CAUSES, 0))
        self._turned_at_s = time.time()

    def ended(self, cause: Literal["ended", "hung"]) -> None:
        """Count a worker that ended though nobody had asked it to."""
        self._ends[cause] += 1

    def turned(self) -> None:
        """State that the supervisor's loop turns."""
        self._turned_at_s = time.time()

    def collect(self) -> Iterator[Any]:
        """Return the two families; called by threads of the exposition."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415  # see metrics.py

        ends = CounterMetricFamily(named(WORKER_ENDS).full_name, named(WORKER_ENDS).meaning, labels=["cause"])
        for cause in CAUSES:
            ends.add_metric([cause], self._ends[cause])
        beat = named(SUPERVISOR_BEAT)
        yield ends
        yield GaugeMetricFamily(beat.full_name, beat.meaning, value=self._turned_at_s)
