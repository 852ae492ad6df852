"""The wheel serves from an empty environment: nothing of the checkout is needed, nor any training package."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_installed_wheel_routes_with_the_packaged_champion(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("turnout-*.whl")
    needed = {f"turnout/{name}" for name in ("training/judge/rubric-1.toml", "serving/py.typed", "training/py.typed")}
    assert needed <= set(zipfile.ZipFile(wheel).namelist())
    home = tmp_path / "environment"
    venv.create(home, with_pip=True)
    subprocess.run([home / "bin" / "pip", "install", "--quiet", wheel], check=True, capture_output=True, timeout=400)
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "TURNOUT_MODELS")}
    command = [home / "bin" / "turnout", "route", "What is the tallest mountain of Iceland?", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert '"bundle":"gpt-4o_gpt-4o-mini/' in done.stdout

    train = [home / "bin" / "turnout", "train", "log.jsonl", "--out", "bundle"]
    refused = subprocess.run(train, cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert "py3-none-any.whl[train]'" in refused.stderr
