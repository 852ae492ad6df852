"""The wheel serves from an empty environment: nothing of the checkout is needed, nor any training package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = "turnout/serving/router/native/_head.abi3.so"


@pytest.mark.slow
@pytest.mark.timeout(800)
@pytest.mark.parametrize("has_compiler", [True, False])
def test_installed_wheel_routes_with_the_packaged_champion(tmp_path: Path, *, has_compiler: bool):
    source = (
        tmp_path / "source"
    )  # a build leaves its folders behind, and a second one would take the extension from there
    shutil.copytree(
        ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(".venv*", "node_modules", "build", "*.so")
    )
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    environment = os.environ if has_compiler else os.environ | {"CC": str(tmp_path / "no-compiler")}
    subprocess.run(build, check=True, capture_output=True, timeout=240, env=environment)
    (wheel,) = tmp_path.glob("turnout-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    needed = {f"turnout/{name}" for name in ("training/judge/rubric-1.toml", "serving/py.typed", "training/py.typed")}
    assert needed <= names
    assert (EXTENSION in names) is (has_compiler and shutil.which("cc") is not None)
    assert wheel.name.split("-", 2)[2].startswith("cp311-abi3-" if EXTENSION in names else "py3-none-any")
    home = tmp_path / "environment"
    venv.create(home, with_pip=True)
    subprocess.run([home / "bin" / "pip", "install", "--quiet", wheel], check=True, capture_output=True, timeout=400)
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "TURNOUT_MODELS")}
    command = [home / "bin" / "turnout", "route", "What is the tallest mountain of Iceland?", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert '"bundle":"gpt-4o_gpt-4o-mini/' in done.stdout
    doctor = [home / "bin" / "turnout", "doctor", "--listen", "127.0.0.1:0", "--json"]
    told = subprocess.run(doctor, cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=120)
    (first_stage,) = (one for one in json.loads(told.stdout) if one["check"] == "first stage")
    assert first_stage["found"].startswith("native" if EXTENSION in names else "Python: the extension is not installed")

    train = [home / "bin" / "turnout", "train", "log.jsonl", "--out", "bundle"]
    refused = subprocess.run(train, cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert f"{wheel.name}[train]'" in refused.stderr
