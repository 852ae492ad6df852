"""From an exception to what the caller may know of it: a gRPC code, a message, and when to try again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import grpc

from turnout.serving.errors import Overloaded, RequestError
from turnout.serving.observe.incidents import report_incident

PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Trailing metadata of gRPC's retry design (proposal A6): milliseconds before the one retry."""

ATTEMPTS_KEY = "grpc-previous-rpc-attempts"
"""Metadata of the same design, that gRPC's clients send with a retry."""
NO_MORE = "-1"
"""A pushback that says not to retry."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Code and message for the caller; `pushback_ms` is None when a retry makes no sense."""

    code: grpc.StatusCode
    message: str
    pushback_ms: int | None = None

    def trailers(self, metadata: Iterable[tuple[str, str | bytes]]) -> tuple[tuple[str, str], ...]:
        """Return the trailing metadata of a call that fails this way, by the metadata that it came with.

        A call that was repeated once is told not to come again: clients whose policy allows more attempts, for
        the sake of UNAVAILABLE, then keep to the contract's one under overload.
        """
        if self.pushback_ms is None:
            return ()
        is_retry = any(key == ATTEMPTS_KEY for key, _ in metadata)
        return ((PUSHBACK_KEY, NO_MORE if is_retry else str(self.pushback_ms)),)


def failure_of(error: Exception) -> Failure:
    """Return what the caller learns; faults of our own are logged as an incident and only their id is told."""
    if not isinstance(error, RequestError) or error.code == "INTERNAL":
        return Failure(grpc.StatusCode.INTERNAL, f"incident {report_incident(error)}")
    pushback_ms = error.pushback_ms if isinstance(error, Overloaded) else None
    return Failure(grpc.StatusCode[error.code], str(error), pushback_ms)
