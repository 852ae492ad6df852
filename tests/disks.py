"""Disks for tests that fail as real ones do: one of 2 MB that fills up, and one that hangs in fdatasync."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

int fdatasync(int descriptor) {
    const char *flag = getenv("TURNOUT_TEST_DISK_HANGS");
    while (flag && access(flag, F_OK) == 0) usleep(10000);
    int (*to_disk)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return to_disk(descriptor);
}
"""


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "2m") -> Iterator[Path]:
    """Mount a tmpfs of this size on the folder; skips the test where that is not allowed."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs can't be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def hanging_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have every process started from now on hang in fdatasync while the returned file exists."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for a disk that hangs")
    source, library, flag = folder / "hang.c", folder / "hang.so", folder / "disk-hangs"
    source.write_text(_SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", os.pathsep.join(filter(None, [str(library), os.environ.get("LD_PRELOAD", "")])))
    monkeypatch.setenv("TURNOUT_TEST_DISK_HANGS", str(flag))
    return flag
