"""Figures that several parts of an evaluation share: the metrics of one ranking, and the bins of its calibration."""

from __future__ import annotations

import msgspec


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """What one ranking is worth; None where undefined, and for calibration where it is no probability."""

    auroc: float | None
    auroc_within_source: float | None
    apgr: float | None
    cpt50: float | None
    cpt80: float | None
    ece: float | None
    ece_floor: float | None
    brier: float | None
    log_loss: float | None
    quality_at_share: dict[str, float | None]
    share_at_quality: dict[str, float | None]


class ReliabilityBin(msgspec.Struct, frozen=True):
    """One of 15 bins of equal mass, with the Wilson interval of its match rate (rows taken as independent)."""

    p_match: float
    match_rate: float
    n: float
    low: float
    high: float


def flat(found: Metrics) -> dict[str, float | None]:
    """Metrics under one level of names: `apgr`, `share_at_quality.0.99`."""
    values: dict[str, float | None] = {}
    for name in Metrics.__struct_fields__:
        value = getattr(found, name)
        values.update(
            {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
        )
    return values
