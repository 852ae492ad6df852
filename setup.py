"""The one part that is compiled: the fast head (`serving/router/native`); all else stands in pyproject.toml.

Where it can't be compiled, the build goes on without it, the wheel is one of pure Python, and the Python path serves.
"""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel

NATIVE = ".imports/turnout/serving/router/native"


class Wheel(bdist_wheel):
    """A wheel for every CPython from 3.11 on, and for every machine where nothing was compiled."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return the tag of what was really built."""
        if any(path.suffix in {".so", ".pyd"} for path in Path(self.bdist_dir).rglob("_head.*")):
            return super().get_tag()
        self.root_is_pure = True
        return "py3", "none", "any"


setup(
    ext_modules=[
        Extension(
            "turnout.serving.router.native._head",
            sources=[f"{NATIVE}/{name}.c" for name in ("head", "pieces", "measures")],
            depends=[f"{NATIVE}/reader.h"],
            libraries=[] if sys.platform == "win32" else ["m"],
            extra_compile_args=[
                "-std=c11",
                "-O2",
                "-ffp-contract=off",
            ],  # products are rounded as the graph rounds them
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
    cmdclass={"bdist_wheel": Wheel},
)
