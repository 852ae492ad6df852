"""Choice: which engine does the work, as the operator says it; apart, because importing an engine takes a while."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EngineName(StrEnum):
    """Where the work is done."""

    NATIVE = "native"
    """In processes of this machine."""
    RAY = "ray"
    """On a Ray cluster."""


@dataclass(frozen=True)
class EngineChoice:
    """An engine, and for Ray the address of the cluster; without one, a cluster of this machine is started."""

    name: EngineName = EngineName.NATIVE
    ray_address: str = ""
