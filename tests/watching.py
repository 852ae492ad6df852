"""Servers with metrics for tests, as the command line starts them, and what a scrape of them says."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import ANY_PORT, ServerProcess, server_process

METRICS_URL = re.compile(r"http://127\.0\.0\.1:\d+/metrics")


@contextlib.contextmanager
def watched_server(
    folder: Path, log: Path, *options: str, workers: int = 0, listen: str = ANY_PORT
) -> Iterator[tuple[ServerProcess, str]]:
    """Start `turnout serve` with metrics on a free port; gives the server and the URL of its metrics."""
    options = ("--metrics", ANY_PORT, *options)
    with server_process(folder, log, *options, listen=listen, lame_duck_s=0, workers=workers) as server:
        yield server, METRICS_URL.findall(log.read_text())[0]


def debian_program(name: str) -> str:
    """Return the path of a program that `make system-deps` installs, or skip."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed; get it with: make system-deps")
    return path
