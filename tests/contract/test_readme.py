"""Every block of the README works as printed, and prints what stands there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.printed import blocks, environment, run

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_LINES, MOST_WORDS = 120, 900
RECORDING = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
SOMETIMES = {""}
"""Lines of the recording that another run may lack."""
MILLISECONDS = re.compile(r"\d+\.\d ms$", re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(960)
def test_the_readme_runs_as_printed_and_prints_what_it_shows(tmp_path, dense_cache):
    # It asks for the champion by a path of the checkout.
    (tmp_path / "models").symlink_to(ROOT / "models")
    script, printed, asked = run(README, tmp_path, dense_cache)
    assert "turnout train" in script
    shown = [line for _, block in blocks(README, "text") for line in MILLISECONDS.sub("ms", block).splitlines()]
    assert len(shown) >= 4
    assert [line for line in shown if line not in MILLISECONDS.sub("ms", printed).splitlines()] == []
    assert set(asked) == {"gpt-4o-mini"}


def normal(line: str) -> str:
    """Return a line without its numbers, its paths, the stage that answered and the widths of its columns."""
    line = re.sub(r"\S*(?:bin|demo)/\S*|20\d{6}-\w+", "PATH", line).replace("FULL", "FAST")
    return " ".join(re.sub(r"[\d.,+%-]+|[^\w:]", " ", line).split())


@pytest.mark.slow
@pytest.mark.timeout(960)
def test_make_demo_wins_keeps_its_promise_and_is_what_was_recorded(tmp_path):
    stamp = Path(sys.prefix) / ".train"
    if not stamp.exists():
        pytest.skip(f"{stamp} is missing: this environment was not made by make, and make demo would install one")
    command = ["make", "demo", f"VENV={sys.prefix}", f"DEMO={tmp_path / 'demo'}"]
    done = subprocess.run(command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    n_known = done.stdout.count("MODEL F")  # FAST or FULL
    assert n_known >= 9
    assert n_known + done.stdout.count("OUT_OF_DIST") == 12
    assert "server stopped with exit code 0" in done.stdout
    assert done.stdout.count("promised: kept") == 2, "one look and two, on rows that no step has seen"
    assert "the router wins" in done.stdout
    assert "http://127.0.0.1:8080/" in done.stdout
    recorded = {normal(line) for _, block in blocks(RECORDING, "text") for line in block.splitlines()}
    assert len(recorded) > 40
    assert recorded - {normal(line) for line in (done.stdout + done.stderr).splitlines()} <= SOMETIMES
    assert (tmp_path / "demo" / "bundle" / "report" / "index.html").exists()


def test_every_make_target_of_the_readme_exists():
    named = set(re.findall(r"\bmake ([a-z-]+)", README))
    defined = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert named >= {"demo", "test"}
    assert named - {"a"} <= defined


def test_blocks_that_are_not_run_install_what_there_is():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    skipped = [body for _, body in blocks(README, "bash")]
    assert len(skipped) == 1
    named = re.findall(r"'\.\[([a-z,]+)\]'", skipped[0])
    assert {"judge", "http"} <= set(named[0].split(",")) <= set(extras)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= MOST_LINES
    assert len(README.split()) <= MOST_WORDS
