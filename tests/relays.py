"""A relay between client and server that can go silent: it takes what comes, forwards nothing and closes nothing."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator

from tests.running import ANY_PORT


class Relay:
    """Forwards bytes both ways until it is told to be silent; new connections are forwarded all the same.

    Attributes:
        address: where it listens.
        n_connections: how many it has taken so far.
    """

    def __init__(self, target: str) -> None:
        host, port = ANY_PORT.split(":")
        self.n_connections = 0
        self._target = target.rsplit(":", 1)
        self._listener = socket.create_server((host, int(port)))
        self.address = f"{host}:{self._listener.getsockname()[1]}"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._silent: set[socket.socket] = set()
        self._takes_new = True
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def fall_silent(self, *, for_new_ones: bool = False) -> None:
        """Forward nothing more on the connections there are; with `for_new_ones` on none that comes later either."""
        self._takes_new = not for_new_ones
        self._silent.update(end for pair in self._pairs for end in pair)

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        for end in (self._listener, *(end for pair in self._pairs for end in pair)):
            end.close()

    def _run(self) -> None:
        other: dict[socket.socket, socket.socket] = {}
        while not self._ending.is_set():
            watched = [self._listener, *(end for end in other if end not in self._silent)]
            for ready in select.select(watched, [], [], 0.05)[0]:
                if ready is self._listener:
                    self._take_in(other)
                elif ready in other and ready not in self._silent:
                    self._forward(ready, other)

    def _take_in(self, other: dict[socket.socket, socket.socket]) -> None:
        near, _ = self._listener.accept()
        self.n_connections += 1
        far = socket.create_connection((self._target[0], int(self._target[1])))
        self._pairs.append((near, far))
        if not self._takes_new:
            self._silent.update((near, far))
        other[near], other[far] = far, near

    def _forward(self, ready: socket.socket, other: dict[socket.socket, socket.socket]) -> None:
        to = other[ready]
        with contextlib.suppress(OSError):
            chunk = ready.recv(1 << 16)
            if chunk:
                to.sendall(chunk)
                return
        for end in (ready, to):
            other.pop(end, None)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def relay(target: str) -> Iterator[Relay]:
    made = Relay(target)
    try:
        yield made
    finally:
        made.close()
