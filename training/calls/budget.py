"""Budget: the caps on dollars and calls, which hold however many calls are under way.

What calls may cost is reserved before they leave and settled when their price is known: what is spent and
what is reserved never exceed a cap together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

ROUNDING_USD = 1e-9
"""Sums of floats may exceed a cap that they meet exactly by this much."""


class CapReached(Exception):
    """The next calls could exceed a cap. Never leaves `turnout.training.calls`: the rows concerned are counted."""


@dataclass(frozen=True, slots=True)
class Caps:
    """Most that a job may cost altogether, in all its runs.

    Attributes:
        max_usd: dollars.
        max_calls: requests that are or may be billed; None for no limit.
    """

    max_usd: float
    max_calls: int | None = None


class Budget:
    """What a job has spent and holds reserved, against its caps; for one event loop."""

    def __init__(self, caps: Caps, spent_usd: float = 0.0, n_calls: int = 0) -> None:
        """Start from what earlier runs of the same job have spent."""
        self.caps = caps
        self.spent_usd = spent_usd
        self.n_calls = n_calls
        self.is_reached = False
        self._held_usd = 0.0
        self._held_calls = 0
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def reserve(self, bounds_usd: list[float]) -> AsyncIterator[Reservation]:
        """Hold room for calls, waiting while others might still leave some; what is not spent goes back.

        Raises:
            CapReached: they don't fit, and nothing under way could make room.
        """
        usd, calls = sum(bounds_usd), len(bounds_usd)
        async with self._freed:
            while not self.fits(usd, calls):
                if self._held_calls == 0:
                    self.is_reached = True
                    raise CapReached
                await self._freed.wait()
            held = Reservation(self)
            held.add(usd, calls)
        try:
            yield held
        finally:
            async with self._freed:
                held.release()
                self._freed.notify_all()

    def fits(self, usd: float, calls: int) -> bool:
        """Return whether both caps have room for so much more."""
        if self.caps.max_calls is not None and self.n_calls + self._held_calls + calls > self.caps.max_calls:
            return False
        return self.spent_usd + self._held_usd + usd <= self.caps.max_usd + ROUNDING_USD


class Reservation:
    """Room held for the calls of one row."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._usd = 0.0
        self._calls = 0

    def add(self, usd: float, calls: int) -> None:
        """Take this much of the budget, which must have it."""
        self._usd += usd
        self._calls += calls
        self._budget._held_usd += usd  # noqa: SLF001  # the two are one thing in two classes
        self._budget._held_calls += calls  # noqa: SLF001

    def extend(self, usd: float) -> None:
        """Hold room for one call more.

        Raises:
            CapReached: there is none now. Never waits: those who hold and those who wait must not be the same,
                or all would wait for each other.
        """
        if not self._budget.fits(usd, 1):
            self._budget.is_reached = True
            raise CapReached
        self.add(usd, 1)

    def spend(self, bound_usd: float, usd: float) -> None:
        """Turn room for one call into what the call cost."""
        self.add(-bound_usd, -1)
        self._budget.spent_usd += usd
        self._budget.n_calls += 1

    def release(self) -> None:
        """Give back what is left."""
        self.add(-self._usd, -self._calls)
