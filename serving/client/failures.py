"""Why calls of a client failed: counted by cause, and said aloud, for a caller that always has an answer sees nothing.

An exception in; out come the word for `fallbacks`, a count, and at most one WARNING a minute for each cause, with
the server's own message. Texts of exceptions that are not ours stay out: they may quote a prompt or a token.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import Counter

import grpc

from turnout.serving.errors import RequestError, TurnoutError

CLIENT_ERROR = "client_error"
BAD_RESPONSE = "bad_response"
REPEAT_S = 60.0
"""After the first WARNING of a cause, one a minute says that it goes on."""
MAX_CAUSES = 64
"""Causes told apart; beyond it they are counted by their code alone."""
MAX_TEXT = 300
_VARYING = re.compile(r"\b[0-9a-f]{16}\b|\d+")

_log = logging.getLogger("turnout.client")


class ClientFault(TurnoutError):
    """A call that can't be made as it was asked for; the message holds nothing of the request's content."""


class BadResponse(TurnoutError):
    """An answer that says nothing that can be used."""


class Failures:
    """What failed, by cause.

    Attributes:
        causes: how often each cause was met: a code, and the message that came with it, without its numbers.
    """

    def __init__(self) -> None:
        self.causes: Counter[str] = Counter()
        self._said_s: dict[str, float] = {}
        self._said: Counter[str] = Counter()
        self._lock = threading.Lock()

    def note(self, why: str, text: str, consequence: str) -> None:
        """Count a failure, and say it unless the same was said within the last minute.

        Args:
            why: a gRPC code in lower case, `bad_response` or `client_error`.
            text: what the server or the client says of it.
            consequence: what became of the call.
        """
        text = " ".join(text.split())[:MAX_TEXT]
        cause = f"{why}: {_VARYING.sub('#', text)}" if text else why
        now_s = time.monotonic()
        with self._lock:
            if cause not in self.causes and len(self.causes) >= MAX_CAUSES:
                cause = why
            self.causes[cause] += 1
            if now_s - self._said_s.get(cause, -REPEAT_S) < REPEAT_S:
                return
            n_since = self.causes[cause] - self._said[cause]
            self._said_s[cause], self._said[cause] = now_s, self.causes[cause]
        again = f" ({n_since} times since this was said last)" if n_since > 1 else ""
        _log.warning("%s: %s%s%s", consequence, why, f": {text}" if text else "", again)


def why_failed(error: Exception) -> str:
    """Return a gRPC code in lower case, `bad_response` or `client_error`."""
    if isinstance(error, BadResponse):
        return BAD_RESPONSE
    if isinstance(error, RequestError):
        return error.code.lower()
    if isinstance(error, grpc.RpcError) and callable(getattr(error, "code", None)):
        return str(error.code().name).lower()
    return CLIENT_ERROR


def text_of(error: Exception) -> str:
    """Return what may be said of a failure."""
    if isinstance(error, TurnoutError):
        return str(error)
    if isinstance(error, grpc.RpcError) and callable(getattr(error, "details", None)):
        return error.details() or ""
    return type(error).__name__
