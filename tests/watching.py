"""Servers with metrics for tests, as the command line starts them, and what a scrape of them says."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import ANY_PORT, ServerProcess, started

METRICS_URL = re.compile(r"http://127\.0\.0\.1:\d+/metrics")


@contextlib.contextmanager
def watched_server(folder: Path, log: Path, *options: str) -> Iterator[tuple[ServerProcess, str]]:
    """Start `turnout serve` with metrics on a free port; gives the server and the URL of its metrics."""
    command = [sys.executable, "-m", "serving.cli", "serve", "--bundle", str(folder), "--listen", ANY_PORT]
    with started([*command, "--metrics", ANY_PORT, "--lame-duck-s", "0", *options], log) as server:
        yield server, METRICS_URL.findall(log.read_text())[0]


def debian_program(name: str) -> str:
    """Return the path of a program that `make system-deps` installs, or skip."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed; get it with: make system-deps")
    return path
