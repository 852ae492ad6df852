"""Estimate: what calls would cost, before any is made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from turnout.training.calls.budget import Caps
from turnout.training.calls.cache import CallCache
from turnout.training.calls.call import Call
from turnout.training.calls.caller import known_outcome
from turnout.training.calls.seen import SeenKeys


class RunEstimate(msgspec.Struct, frozen=True):
    """What a run would do.

    Attributes:
        rows: it would ask about.
        calls: those rows need; two rows with the same texts need them once.
        cached: of these, already answered.
        expected_usd: of the others, at four bytes a token and answers of the usual length.
        bound_usd: the most they can cost, each answered once.
        spent_usd: what these rows have cost so far.
        max_usd, max_calls: the caps, which count what was spent before.
    """

    rows: int
    calls: int
    cached: int
    expected_usd: float
    bound_usd: float
    spent_usd: float
    max_usd: float
    max_calls: int | None

    @property
    def text(self) -> str:
        """Two sentences for people."""
        exceeds = " The expected cost exceeds the cap: rows beyond it would be left out." * (
            self.spent_usd + self.expected_usd > self.max_usd
        )
        calls = "no cap on calls" if self.max_calls is None else f"{self.max_calls} calls"
        return (
            f"{self.rows} rows, {self.calls} calls, {self.cached} of them in the cache; the others cost about "
            f"{self.expected_usd:.4f} USD, at most {self.bound_usd:.4f} (caps: {self.max_usd:g} USD, {calls}; spent so "
            f"far {self.spent_usd:.4f} USD).{exceeds} Nothing was sent."
        )


def estimate(rows: Iterable[Sequence[Call]], cache: Path, caps: Caps, completion_tokens: int) -> RunEstimate:
    """Return what asking these rows' calls would cost; reads the cache where there is one, and sends nothing.

    Raises:
        CacheInUse: another run has the cache.
    """
    sums = _Sums()
    with closing(SeenKeys()) as seen, ExitStack() as opened:
        known = opened.enter_context(closing(CallCache(cache))) if cache.exists() else None
        for row in rows:
            sums.rows += 1
            for call in row:
                if seen.is_new(call.key):
                    sums.add(call, known, completion_tokens)
    return RunEstimate(max_usd=caps.max_usd, max_calls=caps.max_calls, **asdict(sums))


@dataclass
class _Sums:
    rows: int = 0
    calls: int = 0
    cached: int = 0
    expected_usd: float = 0.0
    bound_usd: float = 0.0
    spent_usd: float = 0.0

    def add(self, call: Call, cache: CallCache | None, completion_tokens: int) -> None:
        self.calls += 1
        if cache is not None:
            usd, _ = cache.spent([call.key])
            self.spent_usd += usd
            if known_outcome(cache, call.key) is not None:
                self.cached += 1
                return
        self.expected_usd += call.tariff.expected_usd(call.body, completion_tokens)
        self.bound_usd += call.bound_usd
