"""The openai SDK, or an error that names the extra which brings it."""

from __future__ import annotations

from turnout.training.errors import MissingExtra

try:
    import openai
except ModuleNotFoundError as missing:
    raise MissingExtra("judge", missing.name or "openai") from missing

__all__ = ["openai"]
