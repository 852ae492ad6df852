"""Who may listen on an address: asked before anything starts, and held while workers come and go.

One process binds without SO_REUSEPORT, and the kernel keeps all others away. Workers need
SO_REUSEPORT, and with it a second service would take half of the connections in silence. So their
supervisor first binds without it (which fails while anybody holds the port), then keeps a bound socket
that never listens: the next one's first step fails, and the port stays ours while no worker runs.
Services that start at the same instant take turns through a lock file. (Another program of the same
user that sets SO_REUSEPORT itself can still join; no process can prevent that.)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from turnout.serving.errors import EXIT_PORT_TAKEN, TurnoutError
from turnout.serving.settings import SettingsRefused, split_address, unix_path

_log = logging.getLogger("turnout.listening")

LOCK_WAIT_S = 5.0
"""The lock is held for about a millisecond; whoever holds it this long has been stopped."""


class PortTaken(TurnoutError):
    """Another process listens on that address."""

    exit_code = EXIT_PORT_TAKEN

    def __init__(self, listen: str) -> None:
        super().__init__(f"{listen} is taken by another process; stop it or choose another address")


def check_free(listen: str) -> None:
    """Bind and listen with plain sockets for a moment: they give the reason of a failure, which gRPC does not.

    Raises:
        PortTaken: another process holds the port.
        SettingsRefused: the host is unknown or not of this machine.
    """
    path = unix_path(listen)
    if path is not None:
        _check_unix(path, listen)
        return
    addresses = resolved(listen)
    failures = [failure for address in addresses if (failure := _failure(address)) is not None]
    if any(failure.errno == errno.EADDRINUSE for failure in failures):
        raise PortTaken(listen)
    if len(failures) == len(addresses):
        raise SettingsRefused(f"listen: can't listen on {listen}: {failures[0].strerror}")


@contextlib.contextmanager
def held_port(listen: str) -> Iterator[str]:
    """Hold an address for workers that share it; gives `host:port` with the real port where 0 was asked for.

    A `unix:` address is given as it is, to the one worker that can have it, and its socket taken away at the end.

    Raises:
        PortTaken: another process holds the port, or took it at the same instant.
        SettingsRefused: the host is unknown or not of this machine.
    """
    if (path := unix_path(listen)) is not None:
        check_free(listen)
        try:
            yield listen
        finally:
            path.unlink(missing_ok=True)
        return
    _, port = split_address(listen)
    with contextlib.ExitStack() as sockets:
        with _turn_of(port, listen):
            check_free(listen)
            for family, kind, protocol, _, address in resolved(listen):
                held = sockets.enter_context(socket.socket(family, kind, protocol))
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                try:
                    held.bind((address[0], port, *address[2:]))
                except OSError as error:
                    if error.errno == errno.EADDRINUSE:
                        raise PortTaken(listen) from None
                    continue  # one of several addresses of the name, such as ::1 without IPv6
                port = held.getsockname()[1]
        yield f"{listen.rpartition(':')[0]}:{port}"


def _check_unix(path: Path, listen: str) -> None:
    """Refuse a path where somebody listens, or where no socket can be; gRPC takes away one that nobody listens on."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            probe.connect(str(path))
    except (ConnectionRefusedError, FileNotFoundError):
        if path.exists() and not path.is_socket():
            raise SettingsRefused(f"listen: {path} is there already, and is no socket") from None
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise SettingsRefused(f"listen: can't make a socket in {path.parent}") from None
    except OSError as error:
        raise SettingsRefused(f"listen: can't listen on {listen}: {error.strerror or error}") from None
    else:
        raise PortTaken(listen)


def resolved(listen: str) -> list[tuple[Any, ...]]:
    """Return the addresses of `host:port`, as `getaddrinfo` does; raises `SettingsRefused` for an unknown host."""
    host, port = split_address(listen)
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except OSError as error:
        raise SettingsRefused(f"listen: {host} is not an address of this machine: {error.strerror}") from None


def _failure(candidate: tuple[Any, ...]) -> OSError | None:
    family, kind, protocol, _, address = candidate
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does: old connections may linger
            probe.bind(address)
            probe.listen()
    except OSError as error:
        return error
    return None


@contextlib.contextmanager
def _turn_of(port: int, listen: str) -> Iterator[None]:
    """Hold the lock of a port for the body of the `with`; the kernel gives each who asks for port 0 another."""
    if port == 0:
        yield
        return
    lock = _runtime_folder() / f"port-{port}.lock"
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SettingsRefused(
            f"{lock}: can't be made: {error.strerror}; set XDG_RUNTIME_DIR or TMPDIR to a folder of this user"
        ) from None
    with os.fdopen(handle, "rb") as file:
        give_up_at = time.monotonic() + LOCK_WAIT_S
        while not _is_locked(file.fileno()):
            if time.monotonic() > give_up_at:
                raise PortTaken(listen)
            time.sleep(0.01)
        yield


def _is_locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _runtime_folder() -> Path:
    """Return a folder that only this user can write to: a lock that others can hold is a way to stop us.

    A service user often inherits an XDG_RUNTIME_DIR of another user, from sudo or systemd; then it is the folder for
    temporary files, as without the variable.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    folders = [Path(base) / "turnout"] if base else []
    folders.append(Path(tempfile.gettempdir()) / f"turnout-{os.getuid()}")
    troubles = []
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = folder.lstat()
        except OSError as error:
            troubles.append(f"{folder}: {error.strerror}")
            continue
        if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022:
            troubles.append(f"{folder}: not a folder of this user alone")
        elif not os.access(folder, os.W_OK | os.X_OK):
            troubles.append(f"{folder}: this user can't write there")
        else:
            if troubles:
                _log.warning("XDG_RUNTIME_DIR is of no use (%s); the lock of the port is in %s", troubles[0], folder)
            return folder
    raise SettingsRefused(
        f"no folder for the lock of the port: {'; '.join(troubles)}; set XDG_RUNTIME_DIR or TMPDIR to one of this user"
    )
