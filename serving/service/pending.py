"""Requests that were answered with TRY and wait for their `Check`: bounded in number, size and time, in memory alone.

Comes in: each TRY, and each `Check`. Goes out: the request that a `Check` names by its id, and how each TRY ended.
Kept by the worker that answered: what asks another worker, or too late, sends the request again.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

from turnout.serving.service.asked import Asked
from turnout.serving.service.lineup import Served

KEPT_S = 120.0
"""Longer than the weak model's longest answers take: at 50 tokens a second, 6,000 of them."""
MAX_ITEMS = 4096
MAX_CHARS = 16 << 20
"""Of all prompts that are kept; beyond it the oldest are let go, and are to be sent again."""
KEY_BYTES = 16


@dataclass(slots=True)
class Tried:
    """One request that was tried, perhaps several times; `asked` is None where it has no id to be named by."""

    asked: Asked | None
    served: Served
    ends_s: float
    n_waiting: int = 1

    @property
    def n_chars(self) -> int:
        """Characters of the prompt that are kept."""
        return 0 if self.asked is None else len(self.asked.call.prompt.text)


class Pending:
    """What waits for its `Check`. Belongs to one event loop."""

    def __init__(
        self, on_end: Callable[[str, int], None], *, max_items: int = MAX_ITEMS, max_chars: int = MAX_CHARS
    ) -> None:
        """Take the limits, and what is told how many tries ended `checked` or `unchecked`."""
        self._on_end = on_end
        self._max_items, self._max_chars = max_items, max_chars
        self._secret = secrets.token_bytes(KEY_BYTES)  # whoever reads this memory can't test a guess
        self._tried: OrderedDict[bytes, Tried] = OrderedDict()
        self._n_chars = 0

    def __len__(self) -> int:
        return len(self._tried)

    def put(self, asked: Asked, served: Served) -> None:
        """Take in a TRY."""
        self.sweep()
        key = self._key(asked)
        known = self._tried.pop(key, None)
        if known is not None:
            self._n_chars -= known.n_chars
        fresh = Tried(asked if asked.call.request_id else None, served, time.monotonic() + KEPT_S)
        fresh.n_waiting += 0 if known is None else known.n_waiting
        self._tried[key] = fresh
        self._n_chars += fresh.n_chars
        while len(self._tried) > self._max_items or (self._n_chars > self._max_chars and len(self._tried) > 1):
            self._let_go()

    def find(self, tenant: str, request_id: str) -> Tried | None:
        """Return the request of that id, and count it as checked; None where it is not, or no longer, known."""
        self.sweep()
        found = self._tried.get(self._digest(tenant, request_id, ""))
        if found is not None:
            self._checked(found)
        return found

    def checked(self, asked: Asked) -> None:
        """Count a request that came whole with its answer as checked, where it was tried here."""
        found = self._tried.get(self._key(asked))
        if found is not None:
            self._checked(found)

    def sweep(self) -> None:
        """Let go of what has waited too long."""
        now_s = time.monotonic()
        while self._tried and next(iter(self._tried.values())).ends_s <= now_s:
            self._let_go()

    def _checked(self, tried: Tried) -> None:
        if tried.n_waiting:
            tried.n_waiting -= 1
            self._on_end("checked", 1)

    def _let_go(self) -> None:
        _, oldest = self._tried.popitem(last=False)
        self._n_chars -= oldest.n_chars
        if oldest.n_waiting:
            self._on_end("unchecked", oldest.n_waiting)

    def _key(self, asked: Asked) -> bytes:
        call = asked.call
        return self._digest(call.tenant, call.request_id, "" if call.request_id else call.prompt.text)

    def _digest(self, *parts: str) -> bytes:
        digest = blake2b(digest_size=KEY_BYTES, key=self._secret)
        for part in parts:
            raw = part.encode()
            digest.update(len(raw).to_bytes(8, "little") + raw)
        return digest.digest()
