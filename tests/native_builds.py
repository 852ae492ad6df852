"""The fast head in C for tests: the one installed, or one compiled here where it is not and a compiler is there."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

NAME = "turnout.serving.router.native._head"
SOURCES = Path(__file__).resolve().parents[1] / "serving" / "router" / "native"


def need_extension() -> None:
    """Make the extension importable; skips the test where it can't be made."""
    try:
        importlib.import_module(NAME)
    except ImportError:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("there is no C compiler")
        path = Path(tempfile.mkdtemp(prefix="turnout-native-")) / "_head.abi3.so"
        include = sysconfig.get_paths()["include"]
        command = [compiler, "-std=c11", "-O2", "-ffp-contract=off", "-fPIC", "-shared", f"-I{include}"]
        subprocess.run([*command, *map(str, SOURCES.glob("*.c")), "-o", str(path), "-lm"], check=True, timeout=120)
        use_extension(path)


def use_extension(path: Path) -> None:
    """Let this file stand for the extension that is installed."""
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[NAME])
