"""Sandbox: runs a model's Python against tests in a process of its own, within limits.

Comes in: code, tests and limits. Goes out: whether the tests passed. The child is an isolated interpreter (`-I`: no
environment, no user site, no current folder) with an empty environment, its own temporary folder, and limits on
processor time, memory, file size and open files (`sandbox_child.py` sets them before it reads the code). Its process
group is killed in the end. It has no network where the kernel grants a network namespace; everywhere, Python-level
sockets and new processes are refused. This keeps accidents in; against an attacker, use a container as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

CHILD = Path(__file__).with_name("sandbox_child.py")
OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What one run may use.

    Attributes:
        cpu_s: processor seconds.
        wall_s: seconds from start to kill; also ends what sleeps.
        memory_bytes: address space, the interpreter's own (about 30 MB) included.
        file_bytes: size of any one file it writes, its output included.
        open_files: files it may hold open.
    """

    cpu_s: int = 5
    wall_s: float = 10.0
    memory_bytes: int = 512 << 20
    file_bytes: int = 1 << 20
    open_files: int = 32


def passes(code: str, tests: str, limits: RunLimits) -> bool:
    """Run the code, then the tests, in one namespace; True only when the end of the tests was reached.

    Passing is shown by a random word that the child prints after the last test and that the code is not told: code
    that exits early with status 0 has not passed.
    """
    word = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="turnout-run-") as name:
        folder = Path(name)
        task = json.dumps({"code": code, "tests": tests, "word": word, "limits": asdict(limits)})
        with (folder / OUTPUT).open("wb") as output:
            _run(task, folder, output.fileno(), limits.wall_s)
        return _ends_with(folder / OUTPUT, word)


def _run(task: str, folder: Path, output: int, wall_s: float) -> None:
    process = subprocess.Popen(  # noqa: S603  # running it is the point; see the module's docstring
        [sys.executable, "-I", "-B", str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={},
        start_new_session=True,
        text=True,
        encoding="utf-8",
        errors="surrogatepass",
    )
    try:
        process.communicate(task, timeout=wall_s)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # The group outlives its leader where the code managed to fork: it is killed either way.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _ends_with(path: Path, word: str) -> bool:
    try:
        return path.read_bytes().endswith(word.encode())
    except OSError:
        return False
