"""Who gets into the queue of the model: bounded, aware of deadlines, fair between tenants.

Refusing at once is kinder than letting a caller wait for an answer that comes too late. Limits are
per worker. Slots are taken on the event loop, service times come from the model thread; nothing here
blocks. Health checks never come by here.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator

from turnout.serving.errors import Overloaded

FIRST_ESTIMATE_S = 1e-3
SMOOTHING = 0.05
"""Weight of the newest service time: the estimate follows within some 20 items."""

OUTLIER_FACTOR = 4.0
"""A service time counts as at most this many times the estimate, so that one stall does not close the queue."""

DEADLINE_MARGIN = 1.5
"""A call is let in when its deadline is this many times as far as its turn is expected: answers take their time to
get back, and the queue is measured by its mean. At 1.0 one call in ten waited for its deadline in vain (0002)."""

MAX_PUSHBACK_MS = 5_000


class Admission:
    """Counts the items that wait for the model or run on it, and refuses those that can't be served.

    Attributes:
        items: items admitted and not yet done.
        service_s: running estimate of the time that one item takes on the model, in seconds.
        refused: refusals so far, by cause: `queue`, `tenant` or `deadline`.
    """

    def __init__(
        self, max_items: int, max_tenant_share: float, on_refusal: Callable[[str], None] | None = None
    ) -> None:
        """Take the limits.

        Args:
            max_items: most items admitted and not yet done.
            max_tenant_share: share of `max_items`, in (0, 1], that one tenant may hold once the queue is
                half full; below that anyone may take what is free.
            on_refusal: told the cause of each refusal.
        """
        self.items = 0
        self.service_s = FIRST_ESTIMATE_S
        self.refused: Counter[str] = Counter()
        self._on_refusal = on_refusal
        self._max_items = max_items
        self._max_tenant_items = max(1, math.floor(max_items * max_tenant_share))
        self._tenants: Counter[str] = Counter()

    @contextlib.contextmanager
    def slot(self, tenant: str, remaining_s: float | None, n_items: int = 1) -> Iterator[None]:
        """Hold places in the queue for the body of the `with`; freed whatever ends the body.

        Args:
            tenant: on whose behalf; the empty name is a tenant as any other.
            remaining_s: seconds until the caller's deadline; None without one.
            n_items: runs of the model that the body asks for.

        Raises:
            Overloaded: there is no place, or the deadline can't be met behind what waits already.
        """
        self._check(tenant, remaining_s, n_items)
        self.items += n_items
        self._tenants[tenant] += n_items
        try:
            yield
        finally:
            self.items -= n_items
            self._tenants[tenant] -= n_items
            if not self._tenants[tenant]:
                del self._tenants[tenant]  # names come from callers: keep none that holds nothing

    def observe(self, service_s: float) -> None:
        """Take in the time that one item took on the model, in seconds."""
        counted_s = min(service_s, OUTLIER_FACTOR * self.service_s)
        self.service_s += SMOOTHING * (counted_s - self.service_s)

    def _check(self, tenant: str, remaining_s: float | None, n_items: int) -> None:
        if self.items + n_items > self._max_items:
            raise self._refusal("queue", f"the queue is full ({self._max_items} items)")
        if 2 * self.items >= self._max_items and self._tenants[tenant] + n_items > self._max_tenant_items:
            raise self._refusal("tenant", f"the tenant holds its share of the queue ({self._max_tenant_items} items)")
        # Alone, anyone may try: an estimate that nobody gets past could never come down again.
        expected_s = (self.items + n_items) * self.service_s
        if self.items and remaining_s is not None and remaining_s < DEADLINE_MARGIN * expected_s:
            raise self._refusal("deadline", "the deadline can't be met behind what waits already")

    def _refusal(self, cause: str, message: str) -> Overloaded:
        self.refused[cause] += 1
        if self._on_refusal is not None:
            self._on_refusal(cause)
        half_the_queue_ms = math.ceil(self.items * self.service_s * 1e3 / 2)
        return Overloaded(message, min(max(half_the_queue_ms, 1), MAX_PUSHBACK_MS))
