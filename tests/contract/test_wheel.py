"""The wheels in empty environments: a client of under 25 MB, and a server with the models, without the checkout."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import ServerProcess
from turnout.serving.server.loop import fast_loop

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "serving" / "deploy" / "models"
MOST_MIB = 25
INFERENCE = {"numpy", "onnxruntime", "tokenizers", "uvloop", "cyclopts", "rich"}

CALL = """
import sys
from turnout import AsyncRouter, Routed, Router
with Router(sys.argv[1], timeout_s=60) as router:
    routed = router.route(text="hello", policy="max_worse=0.05")
print(routed.model, routed.p_match is not None, routed.fallback_reason)
"""
EXTENSION = "turnout/serving/router/native/_head.abi3.so"
WITHOUT_UNIX = (
    "import sys; sys.modules.update(dict.fromkeys(('fcntl', 'resource', 'uvloop', 'pwd', 'termios')));" + CALL
)


def built(project: Path, out: Path) -> Path:
    """Build a wheel; return it."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(project)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    if project == MODELS:  # what setuptools leaves there would be in the next wheel, too
        shutil.rmtree(project / "build")
        shutil.rmtree(project / "turnout_models.egg-info")
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT, tmp_path_factory.mktemp("wheel"))


def environment_with(home: Path, package: object) -> Path:
    """Make an environment with a package; return its programs."""
    venv.create(home, with_pip=True)
    install(home / "bin", package)
    return home / "bin"


def install(programs: Path, package: object) -> None:
    command = [programs / "pip", "install", "--quiet", "--no-compile", str(package)]
    subprocess.run(command, check=True, capture_output=True, timeout=400)


def ran(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "TURNOUT_MODELS")}
    clean["PYTHONDONTWRITEBYTECODE"] = "1"
    return subprocess.run([*map(str, command)], cwd=cwd, env=clean, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def client(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    programs = environment_with(tmp_path_factory.mktemp("client"), wheel)
    command = [programs / "pip", "uninstall", "--quiet", "--yes", "pip", "setuptools"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return programs


def installed(programs: Path) -> Iterator[Path]:
    (packages,) = (programs.parent / "lib").glob("python3*/site-packages")
    return (path for path in packages.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_base_installation_is_a_client_of_under_25_mb(client: Path, server: ServerProcess, tmp_path: Path):
    files = list(installed(client))
    mib = sum(path.stat().st_size for path in files) / 2**20
    print(f"\nbase installation: {mib:.1f} MiB, bytecode aside")
    assert mib < MOST_MIB
    names = {path.parts[path.parts.index("site-packages") + 1].partition("-")[0] for path in files}
    assert {"turnout", "grpc"} <= names
    assert not names & (INFERENCE | {"turnout_models"})
    for code in (CALL, WITHOUT_UNIX):
        done = ran(client / "python", "-c", code, server.address, cwd=tmp_path)
        assert (done.returncode, done.stdout.split()[1:]) == (0, ["True", "None"]), done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("words", [["serve"], ["--help"], ["route", "hello"]])
def test_commands_without_their_extra_end_with_one_line_that_names_it_by_path(
    client: Path, wheel: Path, tmp_path: Path, words: list[str]
):
    done = ran(client / "turnout", *words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.strip().endswith(f"pip install 'FOLDER/{wheel.name}[serve]', with the FOLDER of your wheel")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_server_routes_with_the_models_of_their_own_wheel(wheel: Path, tmp_path: Path):
    needed = {f"turnout/{name}" for name in ("training/judge/rubric-1.toml", "serving/py.typed", "training/py.typed")}
    needed.add("turnout/serving/protocols/http/try.html")
    assert needed <= set(zipfile.ZipFile(wheel).namelist())
    programs = environment_with(tmp_path / "server", f"{wheel}[serve]")
    alone = ran(programs / "turnout", "route", "hello", cwd=tmp_path)
    assert alone.returncode == 3
    assert "pip install ./serving/deploy/models" in alone.stderr
    install(programs, built(MODELS, tmp_path / "models"))
    done = ran(programs / "turnout", "route", "What is the tallest mountain of Iceland?", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"bundle":"gpt-4o_gpt-4o-mini/' in done.stdout
    told = ran(programs / "turnout", "doctor", "--listen", "127.0.0.1:0", "--json", cwd=tmp_path)
    (first_stage,) = (one for one in json.loads(told.stdout) if one["check"] == "first stage")
    compiled = EXTENSION in zipfile.ZipFile(wheel).namelist()
    assert first_stage["found"].startswith("native" if compiled else "Python: the extension is not installed")

    refused = ran(programs / "turnout", "train", "log.jsonl", "--out", "bundle", cwd=tmp_path)
    assert refused.returncode == 2
    assert f"{wheel.name}[train]'" in refused.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("has_compiler", [True, False])
def test_wheel_is_for_every_machine_where_nothing_was_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_compiler: bool
):
    # A build leaves its folders behind, and a second one would take the extension from there.
    left_out = shutil.ignore_patterns(".venv*", "node_modules", "build", "*.so")
    source = shutil.copytree(ROOT, tmp_path / "source", symlinks=True, ignore=left_out)
    if not has_compiler:
        monkeypatch.setenv("CC", str(tmp_path / "no-compiler"))
    wheel = built(source, tmp_path)
    compiled = EXTENSION in zipfile.ZipFile(wheel).namelist()
    assert compiled is (has_compiler and shutil.which("cc") is not None)
    assert wheel.name.split("-", 2)[2].startswith("cp311-abi3-" if compiled else "py3-none-any")


def test_the_models_wheel_is_named_after_the_day_of_the_champion():
    version = tomllib.loads((MODELS / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    current = (ROOT / "models" / "gpt-4o_gpt-4o-mini" / "CURRENT").read_text("utf-8").strip()
    assert version.replace(".", "") == current.partition("-")[0]


def test_servers_run_without_uvloop(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert fast_loop() is asyncio.new_event_loop
