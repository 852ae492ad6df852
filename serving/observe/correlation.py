"""Which request and which trace a log line belongs to, asked for when a line is written and not before.

In: the call that a handler answers, and the request's id once it is decoded. Out: two ids, for `logs`. They are kept in
context variables, so that each call, and each item of a batch, has its own.
"""

from __future__ import annotations

import contextlib
import re
import sys
from contextvars import ContextVar
from typing import Any

ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""What an id looks like. Callers may send any string: one with spaces may be text, and is left out."""
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_NO_TRACE = "0" * 32

_call: ContextVar[Any] = ContextVar("turnout_call", default=None)
_request_id: ContextVar[str] = ContextVar("turnout_request_id", default="")


def within(call: Any) -> None:
    """From here on lines belong to this call; it has `invocation_metadata`."""
    _call.set(call)
    _request_id.set("")


def concerning(request_id: str) -> None:
    """From here on lines belong to the request of this id; empty for one without."""
    _request_id.set(request_id)


def request_id() -> str | None:
    """Return the id of the request, where it looks like one; None outside of a request."""
    found = _request_id.get()
    return found if ID.fullmatch(found) else None


def trace_id() -> str | None:
    """Return the id of the trace, 32 hex digits: that of the open span, else what the caller's `traceparent` says."""
    opentelemetry = sys.modules.get("opentelemetry.trace")
    if opentelemetry is not None:
        context = opentelemetry.get_current_span().get_span_context()
        if context.is_valid:
            return f"{context.trace_id:032x}"
    call = _call.get()
    with contextlib.suppress(Exception):  # gRPC gives no metadata of a call that is over
        for name, value in () if call is None else call.invocation_metadata() or ():
            found = _TRACEPARENT.fullmatch(value) if name.lower() == "traceparent" else None
            if found is not None and found[1] != _NO_TRACE:
                return found[1]
    return None
