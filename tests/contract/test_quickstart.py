"""Every block of the quickstart works as printed. A file of its own: it takes as long as the README beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.printed import run

QUICKSTART = (Path(__file__).resolve().parents[2] / "docs" / "quickstart.md").read_text(encoding="utf-8")

LOG, SHORTER = "turnout sample --rows 3000 --seed 7", "turnout sample --rows 1000 --seed 7"
"""A third of the rows: every command still has work to do, in three quarters of the time."""


@pytest.mark.slow
@pytest.mark.timeout(960)
def test_the_quickstart_runs_as_printed(tmp_path, dense_cache):
    assert LOG in QUICKSTART
    script, _, _ = run(QUICKSTART.replace(LOG, SHORTER), tmp_path, dense_cache)
    assert "turnout train" in script
    assert "turnout serve" in script
