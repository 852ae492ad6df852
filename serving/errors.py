"""Errors of the serving side.

    TurnoutError
    ├── RequestError             the caller's fault or our state; carries a gRPC code
    │   ├── InvalidRequest       INVALID_ARGUMENT    do not retry
    │   ├── UnknownName          NOT_FOUND           do not retry
    │   ├── DeadlineSpent        DEADLINE_EXCEEDED   do not retry
    │   ├── Overloaded           RESOURCE_EXHAUSTED  retry once, after its `pushback_ms`
    │   ├── NotServing           UNAVAILABLE         retry on another replica
    │   ├── NotEnabled           UNIMPLEMENTED       do not call this method again
    │   ├── TokenRefused         UNAUTHENTICATED     do not retry
    │   ├── PermissionRefused    PERMISSION_DENIED   do not retry
    │   └── ModelFault           INTERNAL            do not retry; text stays on the server
    ├── UsageRefused             options that don't go together; exit code 2
    ├── BundleRefused            a bundle that must not be served; exit code 3
    ├── RulesRefused             a rules file that must not be used, as a whole; exit code 2
    ├── PricesRefused            a price list that can't be read; exit code 2
    └── PriceUnknown             a model that the price list does not have; exit code 2

Whatever the error, the caller uses the strong model: that costs money, never quality.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import ClassVar, Literal

import turnout

EXIT_OK = 0
EXIT_DATA_REFUSED = 1
EXIT_USAGE = 2
EXIT_BUNDLE_REFUSED = 3
EXIT_PORT_TAKEN = 4

StatusName = Literal[
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "UNIMPLEMENTED",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "INTERNAL",
]
"""Of `grpc.StatusCode`, by name: a command that opens no channel need not import gRPC, a third of its start."""


def how_to_install(extra: str = "") -> str:
    """Return how to install an extra (or what is missing of the base), by the command that fits this installation.

    No package index has Turnout under its name: an editable checkout names its folder, anything else the wheel.
    """
    checkout = Path(__file__).resolve().parents[1]
    part = f"[{extra}]" if extra else ""
    what = f"install the extra `{extra}`: " if extra else ""
    if (checkout / "pyproject.toml").is_file():
        return f"{what}pip install -e '{checkout}{part}'"
    wheel = f"FOLDER/turnout-{turnout.__version__}-{_wheel_tag()}.whl{part}"
    return f"{what}pip install '{wheel}', with the FOLDER of your wheel"


def _wheel_tag() -> str:
    """Return for which Pythons and machines the installed wheel was built."""
    from importlib import metadata  # noqa: PLC0415  # 30 ms, for who asks

    try:
        told = metadata.distribution("turnout").read_text("WHEEL") or ""
    except metadata.PackageNotFoundError:
        told = ""
    return next((line.removeprefix("Tag: ") for line in told.splitlines() if line.startswith("Tag: ")), "py3-none-any")


class TurnoutError(Exception):
    """Root of every error that Turnout raises on purpose; `exit_code` is what the command line ends with."""

    exit_code: ClassVar[int] = EXIT_DATA_REFUSED


class UsageRefused(TurnoutError):
    """Options that contradict each other or can't be read; the message names them and what was expected."""

    exit_code = EXIT_USAGE


class RequestError(TurnoutError):
    """A request that can't be answered; `code` names the gRPC status it becomes."""

    exit_code = EXIT_USAGE
    code: ClassVar[StatusName] = "INTERNAL"


class InvalidRequest(RequestError):
    """The request itself is wrong: undecodable, empty, too large or out of range."""

    code = "INVALID_ARGUMENT"


class UnknownName(RequestError):
    """The request names a policy or a bundle that this server does not have."""

    code = "NOT_FOUND"


class DeadlineSpent(RequestError):
    """The caller's deadline passed before the model could start."""

    code = "DEADLINE_EXCEEDED"


class Overloaded(RequestError):
    """There is no room in the queue, or the deadline can't be met; `pushback_ms` says when to try once more."""

    code = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, pushback_ms: int) -> None:
        super().__init__(message)
        self.pushback_ms = pushback_ms


class NotServing(RequestError):
    """The server is not warm yet, is draining, or can't write outcomes to its disk."""

    code = "UNAVAILABLE"


class NotEnabled(RequestError):
    """The server was started without what this method needs."""

    code = "UNIMPLEMENTED"


class TokenRefused(RequestError):
    """The call shows no bearer token, or one that this server does not know."""

    code = "UNAUTHENTICATED"


class PermissionRefused(RequestError):
    """The call's token is not good for this method or tenant."""

    code = "PERMISSION_DENIED"


class ModelFault(RequestError):
    """The model gave no usable number (NaN or outside [0, 1])."""

    code = "INTERNAL"


class BundleRefused(TurnoutError):
    """A bundle is damaged, incomplete, of a newer format, or misses its golden answers."""

    exit_code = EXIT_BUNDLE_REFUSED


class RulesRefused(TurnoutError):
    """A rules file can't be read, says what it can't mean, or names what is not served; none of it is used."""

    exit_code = EXIT_USAGE


class PricesRefused(TurnoutError):
    """The price list can't be read or contradicts itself."""

    exit_code = EXIT_USAGE


class PriceUnknown(TurnoutError):
    """The price list holds no price for a model."""

    exit_code = EXIT_USAGE


SAYS_WHAT_LIES_THERE = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EACCES,
        errno.EPERM,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,
    }
)
"""What the system says of a file that is gone, was moved or may not be read: somebody changed something."""


def failed_look(error: BaseException) -> str | None:
    """Return why nothing could be seen, where the system failed and the file need not be the reason; else None.

    No descriptors or memory left, a disk or a network that fails: such a look says nothing of the file and is repeated.
    What `error` was made from counts as well.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, MemoryError):
            return "no memory left"
        if isinstance(link, OSError) and link.errno is not None and link.errno not in SAYS_WHAT_LIES_THERE:
            return link.strerror or type(link).__name__
        link = link.__cause__ or link.__context__
    return None
