"""A manifest without its bundle, for what only reads it: report and card."""

import msgspec

from turnout.serving.bundles.manifest import Encoder, Manifest, Pair, Training
from turnout.serving.bundles.policy import Policy

PROMISE = Policy(
    name="max_worse=0.01",
    kind="max_worse",
    target=0.01,
    threshold=0.931,
    is_met=True,
    share_weak=0.324,
    quality_kept=0.9962,
    share_worse=0.0061,
    share_worse_bound=0.0096,
    delta=0.1,
)
NOT_MET = msgspec.structs.replace(
    PROMISE, name="max_worse=0.001", target=0.001, threshold=1.0, is_met=False, share_weak=0.0, share_worse_bound=None
)
PAST = Policy(
    name="max_strong_share=0.3",
    kind="max_strong_share",
    target=0.3,
    threshold=0.78,
    is_met=True,
    share_weak=0.7,
    quality_kept=None,
    share_worse=0.041,
)


def make_manifest(**changes: object) -> Manifest:
    manifest = Manifest(
        format_version=1,
        feature_schema=1,
        name="gateway",
        version="3",
        created="2026-11-20T10:00:00Z",
        pair=Pair(),
        encoder=Encoder("all-MiniLM-L6-v2", "ab" * 32, 256, 384),
        calibrator="isotonic",
        exit_band=0.1,
        golden_tolerance=1e-4,
        default_policy=PROMISE.name,
        policies=[PROMISE, NOT_MET, PAST],
        metrics={},
        intervals={},
        training=Training(
            "cd" * 32, {"fit": 12_458}, {"fit": 11_000}, "salt", 7, 0.875, {"scores": 9}, {"C": 0.3}, {"numpy": "2"}
        ),
        files={},
    )
    return msgspec.structs.replace(manifest, **changes)
