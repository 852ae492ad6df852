"""The server's log on stderr: a line for people, or one JSON object a line.

In: log records, our own and those of libraries. Out: lines without any prompt text. An exception
becomes the outline of its types and frames, as its text may quote a prompt; so may what a library puts
into a message, so that of libraries only the template's first line is kept.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import TextIO

import msgspec

from turnout.serving.observe.correlation import request_id, trace_id
from turnout.serving.observe.incidents import outline

OWN_LOGGER = "turnout"


class LogFormat(StrEnum):
    """How a log line is written."""

    TEXT = "text"
    JSON = "json"


class LogLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the log.

    Attributes:
        time: RFC 3339, UTC, with milliseconds.
        level: `DEBUG` to `CRITICAL`.
        logger: such as `turnout.server`.
        message: what happened; never text of a prompt or of an exception.
        pid: of the worker, or of the supervisor.
        incident: the id that the caller was told, 16 hex digits.
        request_id: the caller's own id of the request, where the line is of one and it looks like an id.
        trace_id: of the trace of that call, 32 hex digits.
        error: types and stack frames of the exception logged with the message.
    """

    time: str
    level: str
    logger: str
    message: str
    pid: int
    incident: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    error: str | None = None


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return msgspec.json.encode(log_line(record)).decode()


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = log_line(record)
        error = "" if line.error is None else f": {line.error}"
        ids = "".join(
            f" {name}={value}" for name, value in (("request", line.request_id), ("trace", line.trace_id)) if value
        )
        return f"{line.time} {line.level} {line.logger}[{line.pid}]{ids} {line.message}{error}"


def log_line(record: logging.LogRecord) -> LogLine:
    """Return what may be written of a record."""
    error = record.exc_info[1] if record.exc_info else None
    return LogLine(
        time=datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        level=record.levelname,
        logger=record.name,
        message=_message(record),
        pid=record.process or 0,
        incident=getattr(record, "incident", None),
        request_id=request_id(),
        trace_id=trace_id(),
        error=None if error is None else outline(error),
    )


def _message(record: logging.LogRecord) -> str:
    if record.name == OWN_LOGGER or record.name.startswith(f"{OWN_LOGGER}."):
        return record.getMessage()
    # asyncio appends the task with its exception's text, below the first line
    return str(record.msg).partition("\n")[0]


def set_up_logging(log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Send every record of level INFO and above to the stream, stderr by default; replaces earlier handlers."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(_JsonFormatter() if log_format is LogFormat.JSON else _TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
