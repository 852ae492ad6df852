"""Ports for servers that have to be told one."""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOWEST = 10_240
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """Return a port of this machine that nobody listens on, and that no server or call beside is given by chance.

    Ports of the ephemeral range are: one that was free a moment ago is another test's by now.
    """
    first = int(EPHEMERAL.read_text().split()[0])
    for _ in range(1000):
        port = random.SystemRandom().randrange(LOWEST, first)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port from {LOWEST} to {first}")
