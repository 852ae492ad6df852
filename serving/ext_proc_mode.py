"""What Turnout may change in a request that Envoy shows it."""

from __future__ import annotations

from enum import StrEnum


class ExtProc(StrEnum):
    """OFF: the service is not there. HEADERS: `x-turnout-*` are set. REWRITE: `"model"` in the body as well."""

    OFF = "off"
    HEADERS = "headers"
    REWRITE = "rewrite"
