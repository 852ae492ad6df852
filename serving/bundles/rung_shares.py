"""What each policy of a ladder gives each rung: from the report in a bundle's folder to `RungShares`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from turnout.serving.bundles.baseline import EVALUATION


class RungShares(msgspec.Struct, frozen=True):
    """What a policy did to the rows that have all rungs, when the bundle was made, in [0, 1].

    Attributes:
        policy: its name.
        looks: 1, or 2 for callers that have answers checked.
        is_met: whether its promise could be shown.
        shares: share that each rung answers in the end, the cheapest first.
        waits_twice: share that waits for two answers.
        worse: share that gets a worse answer than the top's.
        cost: expected cost, where all to the top is 1; None without prices.
    """

    policy: str
    looks: int
    is_met: bool
    shares: list[float]
    waits_twice: float
    worse: float
    cost: float | None = None


class _Figures(msgspec.Struct, frozen=True):
    policies: list[RungShares] = []


class _Evaluation(msgspec.Struct, frozen=True):
    ladder: _Figures | None = None


def read_rung_shares(folder: Path) -> list[RungShares]:
    """Return what each policy of a ladder gives each rung; empty for a pair and where the report is gone."""
    try:
        raw = (folder / EVALUATION).read_bytes()
        found = msgspec.json.decode(raw, type=_Evaluation).ladder
    except (OSError, msgspec.MsgspecError):
        return []
    return [] if found is None else found.policies
