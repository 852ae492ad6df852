"""Where the fast head may not answer: around the threshold, as wide as its answers there ask for.

Learned in training, part of the graph, told in the manifest. Half-widths are in calibrated log-odds and go by
threshold, because the heads disagree more where many answers lie. One width for all thresholds, which must be the
widest, sent 19 % of the reference prompts to the encoder at `max_worse=0.01`; a width of its own sends 16 %, although
it holds the heads to 0.3 % disagreement, and not 0.4 %.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from math import inf

import msgspec


class ExitBand(msgspec.Struct, frozen=True):
    """Half-widths as a step function of the threshold.

    Attributes:
        edges: (k,) ascending log-odds at which the width changes; an edge belongs to the step below it.
        half_widths: (k + 1,) calibrated log-odds, at least 0, below the first edge, between edges, above the last.
    """

    edges: tuple[float, ...]
    half_widths: tuple[float, ...]

    @classmethod
    def constant(cls, half_width: float) -> ExitBand:
        """Return the band that has one half-width at every threshold."""
        return cls((), (half_width,))

    @property
    def widest(self) -> float:
        """The largest half-width."""
        return max(self.half_widths)

    def steps(self) -> Iterator[tuple[float, float, float]]:
        """Yield each step: above which log-odds it begins, up to which it lasts, and its half-width."""
        return zip((-inf, *self.edges), (*self.edges, inf), self.half_widths, strict=True)

    def at(self, threshold_odds: float) -> float:
        """Return the half-width at the log-odds of a threshold."""
        return self.half_widths[bisect_left(self.edges, threshold_odds)]
