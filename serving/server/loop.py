"""The event loop that servers run on: uvloop where there is one, else asyncio's own, which is slower."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the loop, for `asyncio.Runner`."""
    try:
        import uvloop  # noqa: PLC0415  # has no build for Windows and PyPy
    except ModuleNotFoundError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop  # type: ignore[no-any-return]  # untyped
