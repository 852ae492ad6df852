"""The checks of the scorecard that measure no time, so that they don't rot between two runs of it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

UNTIMED = "R7,R9,R12,R15,R16,R17,R18,R20,R31"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_checks_that_measure_no_time_pass(tmp_path):
    report = tmp_path / "scorecard.json"
    command = [sys.executable, "-m", "tests.scorecard", "--fast", "--only", UNTIMED, "--out", str(report)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=570)
    lines = json.loads(report.read_bytes())["lines"] if report.exists() else []
    failed = [line for line in lines if not line["passed"] and line["check"] != "S0"]
    assert len(lines) > 12, ended.stderr[-2000:]
    assert failed == []
