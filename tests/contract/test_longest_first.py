"""The list of files that begin first names files that there are."""

from __future__ import annotations

from tests.conftest import LISTED


def test_every_file_of_the_list_exists():
    named = [line for line in LISTED.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert len(named) == len(set(named)) > 10
    assert [name for name in named if not (LISTED.parent / name).is_file()] == []
