"""The systemd unit: systemd reads every line of it, its command exists, and its exit codes are ours."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from turnout.serving.cli import app as cli
from turnout.serving.errors import EXIT_BUNDLE_REFUSED, EXIT_PORT_TAKEN, EXIT_USAGE

UNIT = (Path(__file__).resolve().parents[2] / "serving" / "deploy" / "turnout.service").read_text(encoding="utf-8")
INSTALLED = "/opt/turnout/bin/turnout"


def test_systemd_reads_it_without_a_word(tmp_path: Path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze not found")
    unit = tmp_path / "turnout.service"
    unit.write_text(UNIT.replace(INSTALLED, str(Path(sys.executable).parent / "turnout")), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "turnout.service" in line]
    assert (done.returncode, ours) == (0, [])


def test_its_command_exists_with_its_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    command = re.search(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    assert command
    settings = tmp_path / "turnout.toml"
    settings.write_text("[serve]\nworkers = 1\n", encoding="utf-8")
    path, *words = shlex.split(command[1].replace("/etc/turnout/turnout.toml", str(settings)))
    assert path == INSTALLED
    cli.run([*words, "--print-config"])
    printed = capsys.readouterr().out
    assert 'spool = "/var/lib/turnout/spool"  # flag' in printed
    assert "workers = 1  # file" in printed


def test_what_would_fail_again_is_not_started_again():
    codes = re.search(r"^RestartPreventExitStatus=(.*)$", UNIT, re.MULTILINE)
    assert codes
    assert codes[1].split() == [str(code) for code in (EXIT_USAGE, EXIT_BUNDLE_REFUSED, EXIT_PORT_TAKEN)]
