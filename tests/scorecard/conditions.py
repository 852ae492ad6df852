"""What all checks of one run share: the bundle, a folder for scratch, the sizes, and the machine's own speed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.scorecard import load
from tests.scorecard.calibration import Calibration, calibrate, mixed_texts
from tests.scorecard.service import Service, service

T = TypeVar("T")


@dataclass(frozen=True)
class Conditions:
    """The conditions of one run.

    Attributes:
        folder: the bundle that ships.
        scratch: a folder that is removed at the end.
        is_full: whether the sizes are those of RELIABILITY section 4, or fit into ten minutes.
    """

    folder: Path
    scratch: Path
    is_full: bool

    def sized(self, *, fast: T, full: T) -> T:
        """Return the size for this run."""
        return full if self.is_full else fast

    @functools.cached_property
    def calibration(self) -> Calibration:
        """S0 before the checks."""
        return calibrate(self.folder, self.sized(fast=5.0, full=15.0))

    def plan(self, service_or_address: Service | str, seconds: float, **more: object) -> load.Plan:
        """Return a load of mixed prompts on one service."""
        one = service_or_address
        return load.Plan(
            targets=[one if isinstance(one, str) else one.address], texts=mixed_texts(), seconds=seconds, **more
        )

    @functools.cached_property
    def peak(self) -> Peak:
        """The closed loop of R2: what the service can do, alone and at its best."""
        with service(self.folder, self.scratch) as served:
            load.drive(self.plan(served, 2))
            cpu_s = served.cpu_s()
            many = load.drive(self.plan(served, self.sized(fast=12.0, full=45.0)))
            cpu_s = served.cpu_s() - cpu_s
            single = load.drive(self.plan(served, self.sized(fast=5.0, full=20.0), callers=1))
        return Peak(many.ok / many.wall_s, many.ok / cpu_s, many, single)

    @property
    def steady_limit_ms(self) -> float:
        """R1's limit of the 99th percentile."""
        return 4 * self.calibration.p50_ms + 10


@dataclass(frozen=True)
class Peak:
    """The best that one worker can do.

    Attributes:
        rate: answers a second.
        cpu_rate: answers a second of the server's CPU time.
        many: 16 callers.
        single: one caller.
    """

    rate: float
    cpu_rate: float
    many: load.Load
    single: load.Load


def median(values: Sequence[float]) -> float:
    """Return the median; infinite of none."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else float("inf")
