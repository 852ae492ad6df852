"""The command line as tests call it: in this process, with what it printed and its exit code."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from turnout.serving.cli import app as cli
from turnout.training.sample.sample import write_sample


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Turnout = Callable[..., Ended]


@pytest.fixture
def turnout(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Turnout:
    """Return a function that runs `turnout` in this process as its entry point does.

    Temporary files have a folder of their own: a server says what it removes of others in the usual one.
    """
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def run(*arguments: object, stdin: str = "", columns: int = 240) -> Ended:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys, "argv", ["turnout", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "log.jsonl.gz"
    write_sample(path, 60, seed=2)
    return path


@pytest.fixture
def damaged(bundle_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle_folder, tmp_path / "damaged")
