"""Loads one bundle in a process of its own and says what that took: refused or not, files opened elsewhere, memory.

Run as `python -m tests.scorecard.loading FOLDER`; a `Loading` as JSON on standard output.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.errors import BundleRefused


class Loading(msgspec.Struct, frozen=True):
    """What the loading of one bundle took.

    Attributes:
        refusal: message of the refusal; empty when it loaded.
        opened_elsewhere: files that Python opened below the parent of the bundle's folder, but not in it.
        grown_mib: by how much the peak of resident memory grew.
    """

    refusal: str
    opened_elsewhere: list[str]
    grown_mib: float


def load_apart(folder: Path) -> Loading:
    """Load in a process of its own; a crash of that process raises."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.scorecard.loading", folder], capture_output=True, check=True, timeout=60
    )
    return msgspec.json.decode(done.stdout, type=Loading)


def _load(folder: Path) -> Loading:
    opened: list[str] = []

    def hook(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if path.startswith(f"{folder.parent}/") and not path.startswith(f"{folder}/"):
                opened.append(path)

    sys.addaudithook(hook)
    before_kib = _peak_kib()
    try:
        load_bundle(folder)
        refusal = ""
    except BundleRefused as error:
        refusal = str(error)
    return Loading(refusal, opened, (_peak_kib() - before_kib) / 1024)


def _peak_kib() -> int:
    """Return the peak of this program's own memory; `getrusage` would count that of the process it was forked from."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_load(Path(sys.argv[1]).resolve())))
