"""What the operator of `turnout retrain` chooses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from turnout.training.fit.fit import FitSettings
from turnout.training.logs.reading import Reading
from turnout.training.retrain.gate import GateLimits
from turnout.training.retrain.pool import Aging


@dataclass(frozen=True)
class RetrainSettings:
    """What the operator chooses.

    Attributes:
        policy: at whose thresholds the two are compared; empty for the champion's default one.
        limits: what the gate tolerates.
        test_share: share of the fresh groups to compare on, in (0, 1).
        min_test_rows: fewer rows to compare on are too few; nothing is learned then.
        aging: window and decay.
        reading: how the logs are to be read.
        seed: of draws and bootstraps.
        cache_dir: folder of the dense cache; None for none.
        fit: form, C and scales to fit with; None chooses them by cross-validation.
        is_dry_run: nothing is written.
        is_forced: promote whatever the gate says; noted in the bundle.
        may_lose_second_look: whether a challenger without a second look may take the place of a champion that has one.
        signing_key: private key to sign the challenger with; None leaves it unsigned.
        model_scores: of a ladder, table of scores of its models that the logs lack; None for none.
    """

    policy: str = ""
    limits: GateLimits = field(default_factory=GateLimits)
    test_share: float = 0.4
    min_test_rows: int = 1000
    aging: Aging = field(default_factory=Aging)
    reading: Reading = field(default_factory=Reading)
    seed: int = 0
    cache_dir: Path | None = None
    fit: FitSettings | None = None
    is_dry_run: bool = False
    is_forced: bool = False
    may_lose_second_look: bool = False
    signing_key: Path | None = None
    model_scores: Path | None = None
