"""The version, which stands in `pyproject.toml`, in every other file that has to say it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NUMBER = r"\d+\.\d+\.\d+"
IN_PAGES = r"(turnout(?:-training)?[:-])"
PLACES = {
    "serving/deploy/base/kustomization.yaml": r"(newTag: )",
    "serving/deploy/registry/kustomization.yaml": r"(newTag: )",
    "serving/deploy/chart/Chart.yaml": r"((?:^|\n)(?:version|appVersion): )",
    "serving/gateways/typescript/package.json": r"(\n  \"version\": \")",
    "docs/operate/server.md": IN_PAGES,
    "docs/operate/kubernetes.md": IN_PAGES,
}
"""Files, from the root, and what stands before the version in them."""


def version() -> str:
    """Return the version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def versioned(name: str) -> str:
    """Return the text of one of the files with the version in it; raises `SystemExit` where it has no place for it."""
    text = (ROOT / name).read_text(encoding="utf-8")
    said, n = re.subn(PLACES[name] + NUMBER, rf"\g<1>{version()}", text)
    if not n:
        raise SystemExit(f"{name}: says no version; see PLACES in docs/generate/version.py")
    return said
