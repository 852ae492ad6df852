"""Wheel tag: a wheel in which nothing was compiled is one for every machine. For the build alone."""

from __future__ import annotations

from pathlib import Path

from setuptools.command.bdist_wheel import bdist_wheel


class Wheel(bdist_wheel):
    """A wheel for every CPython from 3.11 on, and for every machine where nothing was compiled."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return the tag of what was really built."""
        if any(path.suffix in {".so", ".pyd"} for path in Path(self.bdist_dir or "").rglob("_head.*")):
            return super().get_tag()
        self.root_is_pure = True
        return "py3", "none", "any"
