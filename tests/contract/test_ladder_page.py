"""The blocks of the ladder's page that serve work as printed, with the bundle that ships and an upstream."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.printed import run

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "ladder.md").read_text(encoding="utf-8")
NAMES = ("gpt-4o-mini", "gpt-4o", "o3")


@pytest.mark.slow
def test_the_ladder_is_served_as_printed(tmp_path: Path):
    (tmp_path / "models").symlink_to(ROOT / "models")
    script, printed, asked = run(PAGE, tmp_path, tmp_path)
    assert "turnout serve" in script
    _, routed, who, said = printed.strip().splitlines()
    assert routed.split()[0] in NAMES
    assert "policy max_worse=0.05" in routed
    model, policy = who.split()
    assert policy == "max_worse=0.05"
    assert asked[-1] == model
    assert set(asked) <= set(NAMES)
    assert said == "571"
