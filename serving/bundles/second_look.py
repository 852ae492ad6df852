"""The second look as a bundle holds it: what the manifest says of it, and golden answers that it must meet.

Plain values, without any model.
"""

from __future__ import annotations

import msgspec

from turnout.serving.router.answer import Signals

CHECK_TOLERANCE = 1e-4
"""Largest accepted difference of a golden check: no encoder runs, so that only float rounding can differ."""


class Spread(msgspec.Struct, frozen=True):
    """How one measure of checked answers is spread over the rows that the default policy would try.

    Attributes:
        name: `p_match_checked`, `mean_logprob`, `self_check` or `log_characters` (log(1 + characters of the answer)).
        edges: (b + 1,) ascending, of bins of equal width; two equal ones for a measure that never varied.
        n: (b,) rows between them, those beyond in the outermost.
    """

    name: str
    edges: list[float]
    n: list[int]


class SecondLook(msgspec.Struct, frozen=True):
    """What the second look was learned from and what it is worth, on rows told by fits without their group.

    Attributes:
        rows, signals: answers that taught it, and those of them with a signal that counts.
        sources: sources with signals; each left out whole once to judge the signal head.
        n, metrics, intervals: of the rows with an answer, named as those of the first look.
        n_signals, metrics_signals, intervals_signals: of those of them with a signal; empty where they are too few.
        n_tried: rows of the n that the default policy would try; what live verdicts are held against.
        spreads: of their measures, each where enough rows have it; empty in bundles of before.
    """

    rows: int
    signals: int
    sources: int
    n: int
    metrics: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]
    n_signals: int = 0
    metrics_signals: dict[str, float | None] = {}
    intervals_signals: dict[str, tuple[float, float]] = {}
    n_tried: int = 0
    spreads: list[Spread] = []


class GoldenCheck(msgspec.Struct, frozen=True):
    """An answer of the project's own and what the second look must say of it: `p_match` of both heads.

    `p_signals` is None where no signal counts.
    """

    prompt: str
    answer: str
    first_log_odds: float
    p_checker: float
    p_signals: float | None
    mean_logprob: float | None = None
    self_check: float | None = None

    @property
    def signals(self) -> Signals:
        """What came with the answer."""
        return Signals(mean_logprob=self.mean_logprob, self_check=self.self_check)
