"""Every command of the README works as printed."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEFAULT_PORT = "50151"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def environment(tmp_path: Path) -> dict[str, str]:
    scripts = Path(sys.executable).parent
    return os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}", "TURNOUT_CACHE": str(tmp_path / "cache")}


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_shell_and_python_blocks_run_as_printed(tmp_path):
    """Run all blocks in their order in one folder: later ones use what earlier ones wrote."""
    port = free_port()
    steps = []
    for language, block in re.findall(r"^```(sh|python)\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        if block.startswith("make "):
            continue
        body = block if language == "sh" else f"python - <<'PYTHON'\n{block}PYTHON\n"
        steps.append(body.replace(DEFAULT_PORT, port))
    script = "set -euo pipefail\n" + "\n".join(steps)
    assert "turnout train" in script
    assert "turnout serve" in script
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=380
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "FALLBACK" not in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_make_demo_routes_a_dozen_requests_and_stops_the_server(tmp_path):
    stamp = Path(sys.prefix) / ".train"
    if not stamp.exists():
        pytest.skip(f"{stamp} is missing: this environment was not made by make, and make demo would install one")
    command = ["make", "demo", f"VENV={sys.prefix}", f"DEMO={tmp_path / 'demo'}"]
    done = subprocess.run(command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    n_known = done.stdout.count("MODEL F")  # FAST or FULL
    assert n_known >= 9
    assert n_known + done.stdout.count("OUT_OF_DIST") == 12
    assert "server stopped with exit code 0" in done.stdout
    assert (tmp_path / "demo" / "bundle" / "report" / "index.html").exists()


def test_every_make_target_of_the_readme_exists():
    named = set(re.findall(r"\bmake ([a-z-]+)", README))
    defined = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert named
    assert named <= defined
