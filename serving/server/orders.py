"""What processes of a service tell each other: one order down, then reports up, a line of JSON each.

Who started the service is told one line of text.

Imports no model: the supervisor stays light.
"""

from __future__ import annotations

import signal
from typing import Any

import msgspec

from turnout.serving.observe.settings import ObserveSettings
from turnout.serving.settings import ServerSettings, Sources

STACKS_SIGNAL = signal.SIGUSR1
"""Has a worker write the stacks of its threads into its reports, below the interpreter, also when it hangs."""


class Order(msgspec.Struct, frozen=True):
    """What a worker is to do, on its standard input.

    Attributes:
        sources: of the bundles.
        settings: with the real port in `listen`.
        observe: how it shows itself.
        supervisor_pid: the worker ends when this process does.
    """

    sources: Sources
    settings: ServerSettings
    observe: ObserveSettings
    supervisor_pid: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The worker is warm and takes calls."""

    bundle_id: str


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The worker ends: bundle, settings or address won't do; with the exit code of that error."""

    message: str
    exit_code: int


class Reloaded(msgspec.Struct, frozen=True, tag="reloaded"):
    """The worker has been through `RouterServer.reload`, whatever came of it."""


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """The worker's event loop turns and its model answers; once a second from `Ready` on."""


Report = Ready | Refused | Reloaded | Beat


_reports: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)


def to_line(message: Order | Report) -> bytes:
    """Return the message as one line, with its line end."""
    return msgspec.json.encode(message, enc_hook=str) + b"\n"


def order_of(line: bytes) -> Order:
    """Return the order in a line."""
    return msgspec.json.decode(line, type=Order, dec_hook=_path)


def report_of(line: bytes) -> Report:
    """Return the report in a line."""
    return _reports.decode(line)


def ready_line(bundle_id: str, listen: str) -> str:
    """Return the one line of a service that is ready; scripts take the address from its last word."""
    return f"turnout: serving {bundle_id} on {listen}"


def _path(kind: type[Any], value: Any) -> Any:
    return kind(value)
