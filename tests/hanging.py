"""Workers that hang on demand: a module that every Python finds at its start makes SIGUSR2 hang the process.

`hanging_workers(folder)` -> every process started from then on -> `hang(pid, how)`
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

_MODULE = """
import ctypes, os, pathlib, signal, threading, time

def hang_holding_the_lock():
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):  # the second time for ever, whatever signals come; PyDLL keeps the lock of the interpreter
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)

def hang(*_):
    how = pathlib.Path(os.environ["TURNOUT_TEST_HANG"]).read_text()
    if how == "event loop asleep":
        time.sleep(1000)
    elif how == "event loop busy":
        while True:
            pass
    elif how == "event loop holds the GIL":
        hang_holding_the_lock()
    elif how == "another thread holds the GIL":
        threading.Thread(target=hang_holding_the_lock, daemon=True).start()

signal.signal(signal.SIGUSR2, hang)
"""
WAYS = ("event loop asleep", "another thread holds the GIL", "event loop busy", "event loop holds the GIL")
STOPPED = "stopped"


def hanging_workers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every Python process started from now on be one that `hang` works on."""
    modules = folder / "hanging"
    modules.mkdir()
    (modules / "sitecustomize.py").write_text(_MODULE)
    monkeypatch.syspath_prepend(modules)
    monkeypatch.setenv("TURNOUT_TEST_HANG", str(folder / "how"))


def hang(pid: int, how: str) -> None:
    """Hang that process in one of `WAYS`, or stop it as SIGSTOP does."""
    if how == STOPPED:
        os.kill(pid, signal.SIGSTOP)
        return
    Path(os.environ["TURNOUT_TEST_HANG"]).write_text(how)
    os.kill(pid, signal.SIGUSR2)
    time.sleep(0.2)  # until it has read the file
