"""The RUN steps of the serving image, in empty environments: no Docker engine runs here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "serving" / "deploy" / "Dockerfile").read_text("utf-8")
TRAINING_ONLY = {"torch", "scikit-learn", "scipy", "pyarrow", "onnx", "matplotlib", "jinja2", "daft"}


def stage(name: str) -> list[str]:
    """Return the RUN commands of a stage."""
    text = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)
    (found,) = [one for one in text if one.splitlines()[0].endswith(f" AS {name}")]
    return re.findall(r"^RUN (.*)$", found, re.MULTILINE)


def sized(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 2**20


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_steps_of_the_image_make_a_server_without_training_packages(tmp_path: Path, capsys: pytest.CaptureFixture):
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "TURNOUT_MODELS")}
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "python").symlink_to(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
    environment["PATH"] = f"{tools}:{environment['PATH']}"
    source = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    for step in stage("build"):
        here = re.sub(r"(?<![\w.])/(build|wheels|opt/turnout)\b", rf"{tmp_path}/\1", step)
        done = subprocess.run(
            ["sh", "-ec", here], cwd=source, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{step}\n{done.stderr}"
    home = tmp_path / "opt" / "turnout"
    listed = {path.name.partition("-")[0].lower().replace("_", "-") for path in home.rglob("*.dist-info")}
    assert {"turnout", "grpcio", "onnxruntime"} <= listed
    assert not listed & TRAINING_ONLY
    routed = subprocess.run(
        [home / "bin" / "turnout", "route", "hello", "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert '"bundle":"gpt-4o_gpt-4o-mini/' in routed.stdout, routed.stderr
    with capsys.disabled():
        print(f"\ninstalled tree: {sized(home):.0f} MiB; packages: {', '.join(sorted(listed))}")
