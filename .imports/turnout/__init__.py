"""Turnout: which LLM requests need the expensive model? What a caller's process imports stands here.

    from turnout import Router

Everything else is inside: `turnout.serving` answers, `turnout.training` learns. The names are loaded when they
are first used, so that `import turnout` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnout.serving.client import AsyncRouter, Routed, Router

    __version__: str

__all__ = ["AsyncRouter", "Routed", "Router", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in ("AsyncRouter", "Routed", "Router"):
        return getattr(import_module("turnout.serving.client"), name)
    raise AttributeError(f"module 'turnout' has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  # 30 ms, for who asks

    try:
        return version("turnout")
    except PackageNotFoundError:  # run from its sources, never installed
        return "0+uninstalled"


def __dir__() -> list[str]:
    return sorted(__all__)
