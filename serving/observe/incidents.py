"""What the server writes down of a fault of its own: never the exception's text, which may hold a prompt."""

from __future__ import annotations

import logging
import secrets
import traceback
from pathlib import Path

_log = logging.getLogger("turnout.incidents")


def report_incident(error: BaseException) -> str:
    """Log the type and the stack frames of `error`, and of what caused it; return the incident's id.

    The id is 16 hex digits and all that the caller learns. Text, arguments and local variables stay
    out of the log: an exception raised deep in a library may quote the prompt.
    """
    incident = secrets.token_hex(8)
    _log.error("incident %s: %s", incident, outline(error), extra={"incident": incident})
    return incident


def outline(error: BaseException) -> str:
    """Return the types and stack frames of `error` and of what caused it, and nothing of their text."""
    return " <- ".join(_describe(link) for link in _chain(error))


def _chain(error: BaseException) -> list[BaseException]:
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def _describe(error: BaseException) -> str:
    frames = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), lookup_lines=False)
    places = ", ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{type(error).__module__}.{type(error).__qualname__} at [{places}]"
