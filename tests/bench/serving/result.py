"""What a run gives, as it is printed and as `--json` writes it."""

from __future__ import annotations

import msgspec

from tests.bench.serving.early_exit import EarlyExit
from tests.bench.serving.promises import Promise
from tests.bench.serving.turns import Turn


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        machine: the processor's name.
        load_before: load average over one minute, before the run; well below 1 on a quiet machine.
        mix: what the mixed prompts were.
        usd_per_core_hour: the price that costs were counted at, and where it comes from (`price_source`).
        rounds: a turn by variant for each round.
        skipped: variants left out, and why.
    """

    machine: str
    cores: int
    load_before: float
    commit: str
    started: str
    mix: str
    usd_per_core_hour: float
    price_source: str
    seconds: float
    early_exit: EarlyExit
    promises: list[Promise]
    skipped: dict[str, str]
    rounds: list[dict[str, Turn]]
