"""A stream of the upstream that passes through to its caller, and how it ended.

Pieces in, a response out. Its end is told once, whatever it is: `ok`, `broke_off` where the upstream did, or `left`
where the caller did.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Mapping

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

LAST = re.compile(rb"^(?:data: ?\[DONE\]|event: ?response\.(?:completed|incomplete|failed))\r?$", re.MULTILINE)
"""The line with which a stream says that it is whole: what goes wrong after it takes nothing from anybody."""
BROKE_OFF = b'\n\ndata: {"error": {"message": "the upstream broke off", "type": "upstream_error"}}\n\n'


class LastingStream(StreamingResponse):
    """The response; one that breaks off ends with an error event, which SDKs raise."""

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        kept_open: contextlib.AsyncExitStack,
        on_end: Callable[[str], None],
        status: int,
        headers: Mapping[str, str],
    ) -> None:
        """Take the pieces, what is to be closed after them, and who is told how they ended."""
        self._kept_open = kept_open
        self._on_end = on_end
        self._result = "left"
        super().__init__(self._passed(pieces), status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; its end is told even where its caller left before it began."""
        async with self._kept_open:
            try:
                await super().__call__(scope, receive, send)
            finally:
                self._on_end(self._result)

    async def _passed(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for piece in pieces:
                if LAST.search(piece):
                    self._result = "ok"
                yield piece
        except Exception:  # noqa: BLE001  # the transport's text may quote the URL; the head is sent already
            if self._result != "ok":
                self._result = "broke_off"
                yield BROKE_OFF
        else:
            self._result = "ok"
