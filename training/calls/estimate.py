"""Estimate: what calls would cost, before any is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from training.calls.budget import Caps
from training.calls.cache import CallCache
from training.calls.call import Call
from training.calls.caller import known_outcome


class Estimate(msgspec.Struct, frozen=True):
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


def estimate(rows: Sequence[Sequence[Call]], cache: Path, caps: Caps, completion_tokens: int) -> Estimate:
    """Return what asking these rows' calls would cost; reads the cache where there is one, and sends nothing.

    Raises:
        CacheInUse: another run has the cache.
    """
    calls = {call.key: call for row in rows for call in row}
    missing, spent_usd = calls, 0.0
    if cache.exists():
        known = CallCache(cache)
        missing = {key: call for key, call in calls.items() if known_outcome(known, key) is None}
        spent_usd, _ = known.spent(calls)
        known.close()
    return Estimate(
        rows=len(rows),
        calls=len(calls),
        cached=len(calls) - len(missing),
        expected_usd=sum(call.tariff.expected_usd(call.body, completion_tokens) for call in missing.values()),
        bound_usd=sum(call.bound_usd for call in missing.values()),
        spent_usd=spent_usd,
        max_usd=caps.max_usd,
        max_calls=caps.max_calls,
    )
