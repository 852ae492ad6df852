"""From an exception to what the caller may know of it: a gRPC code, a message, and when to try again."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from serving.errors import Overloaded, RequestError
from serving.server.incidents import report_incident

PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Trailing metadata of gRPC's retry design (proposal A6): milliseconds before the one retry."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Code and message for the caller; `pushback_ms` is None when a retry makes no sense."""

    code: grpc.StatusCode
    message: str
    pushback_ms: int | None = None

    @property
    def trailers(self) -> tuple[tuple[str, str], ...]:
        """Trailing metadata of a call that fails this way."""
        return () if self.pushback_ms is None else ((PUSHBACK_KEY, str(self.pushback_ms)),)


def failure_of(error: Exception) -> Failure:
    """Return what the caller learns; faults of our own are logged as an incident and only their id is told."""
    if not isinstance(error, RequestError) or error.code is grpc.StatusCode.INTERNAL:
        return Failure(grpc.StatusCode.INTERNAL, f"incident {report_incident(error)}")
    return Failure(error.code, str(error), error.pushback_ms if isinstance(error, Overloaded) else None)
