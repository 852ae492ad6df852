"""Folders import downward only: each room may use what stands below it in these lists, and nothing above."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = {
    "serving": "cli server protocols service gateways access observe client wire decision"
    " settings bundles spool router files errors quiet pb",
    "training": "cli replay retrain drift learn report assess check bundle evaluation pipeline policy dataset judge"
    " labels offpolicy fit logs calls compaction encoders sample files errors progress arrays",
}
"""From the top down. `training` stands above `serving` as a whole; see test_import_boundaries for that."""


def _imported(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@pytest.mark.parametrize("package", LAYERS)
def test_no_room_imports_upward(package):
    order = LAYERS[package].split()
    upward = []
    for source in sorted((ROOT / package).rglob("*.py")):
        room = source.relative_to(ROOT / package).parts[0].removesuffix(".py")
        if room == "__init__" or "node_modules" in source.parts:
            continue
        assert room in order, f"{source}: a new room; give {room!r} its place in LAYERS"
        for name in _imported(source):
            parts = name.split(".")
            if parts[:2] == ["turnout", package] and len(parts) > 2 and order.index(parts[2]) < order.index(room):
                upward.append(f"{source.relative_to(ROOT)} -> {name}")
    assert not upward


def test_no_files_import_each_other_in_a_circle():
    files = {
        f"turnout.{'.'.join(source.relative_to(ROOT).with_suffix('').parts)}".removesuffix(".__init__"): source
        for package in LAYERS
        for source in (ROOT / package).rglob("*.py")
        if "node_modules" not in source.parts
    }
    below = {
        name: {target for found in _imported(source) for target in (found, found.rpartition(".")[0]) if target in files}
        for name, source in files.items()
    }
    faces = {name for name, source in files.items() if source.name == "__init__.py"}
    order = TopologicalSorter({name: targets - faces for name, targets in below.items() if name not in faces})
    order.prepare()  # raises CycleError, which names the files


@pytest.mark.parametrize("package", LAYERS)
def test_every_folder_says_what_comes_in_and_what_goes_out(package):
    silent = [
        folder.relative_to(ROOT)
        for folder in (ROOT / package).iterdir()
        if (folder / "__init__.py").exists()
        and folder.name != "pb"
        and not (
            {"Comes", "Goes"} <= set((ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or "").split())
        )
    ]
    assert not silent
