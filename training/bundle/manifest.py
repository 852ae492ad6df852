"""The manifest of a bundle, built here and nowhere else.

Comes in: what was solved, what it is worth and what it rests on. Goes out: `Manifest`, without the digests of its
files.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from turnout.serving.bundles.ladder import Rung
from turnout.serving.bundles.manifest import (
    FORMAT_VERSION,
    LADDER_FORMAT_VERSION,
    Manifest,
    OutOfDistribution,
    Pair,
    Training,
)
from turnout.serving.router.features import SCHEMA_VERSION
from turnout.serving.router.ties import tenant_digest
from turnout.training.bundle.golden import GOLDEN_TOLERANCE
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.evaluation.evaluation import Evaluation
from turnout.training.evaluation.figures import flat
from turnout.training.fit.router import FittedRouter
from turnout.training.fit.unfamiliar import RARE_BELOW
from turnout.training.logs.records import Record
from turnout.training.policy.solve import Solved

LIBRARIES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "scipy", "tokenizers")

MAX_TENANTS = 1000
"""Of a manifest, those of most rows: some 25 bytes each. One that is left out has too few rows to be vouched for."""


@dataclass(frozen=True)
class Identity:
    """What a bundle is called and how its rows were read.

    Attributes:
        name: first half of its id.
        pair: names of the two models.
        margin: by how much the weak score may fall below the strong one and still match.
        harness_rules: version of the rules by which prompts lose their harness text.
        is_synthetic: whether made-up rows taught it.
        parent: id of the bundle that it was made from; None for none.
    """

    name: str
    pair: Pair
    margin: float
    harness_rules: int
    is_synthetic: bool
    parent: str | None = None


def tenants_of(records: Iterable[Record], salt: str) -> dict[str, int]:
    """Return labelled rows by `tenant_digest`, of at most `MAX_TENANTS`; empty where no record names one."""
    named = Counter(record.tenant for record in records if record.tenant)
    return {tenant_digest(name, salt): n for name, n in named.most_common(MAX_TENANTS)}


def build_manifest(
    identity: Identity,
    solved: Solved,
    evaluation: Evaluation,
    training: Training,
    encoder: EncoderModel,
    graph: bytes,
    extra: dict[str, tuple[float, tuple[float, float] | None]] | None = None,
) -> Manifest:
    """Return the manifest; `extra` holds figures beyond the evaluation's, each with its interval."""
    created, router = datetime.now(UTC), solved.router
    further = extra or {}
    intervals = {**evaluation.intervals, **{name: bounds for name, (_, bounds) in further.items()}}
    return Manifest(
        format_version=FORMAT_VERSION,
        feature_schema=SCHEMA_VERSION,
        name=identity.name,
        version=f"{created:%Y%m%d}-{hashlib.sha256(graph).hexdigest()[:8]}",
        created=created.isoformat(timespec="seconds"),
        pair=identity.pair,
        encoder=encoder.manifest_entry,
        calibrator=router.full_calibrator.kind,
        exit_band=router.exit_band.widest,
        exit_band_by_threshold=router.exit_band,
        golden_tolerance=GOLDEN_TOLERANCE,
        default_policy=solved.default,
        default_reason=solved.reason,
        policies=solved.policies,
        risk=solved.risk,
        metrics={
            "n": float(evaluation.n),
            "match_rate": evaluation.match_rate,
            **flat(evaluation),
            **{name: value for name, (value, _) in further.items()},
        },
        intervals={name: bounds for name, bounds in intervals.items() if bounds is not None},
        training=training,
        files={},
        synthetic=identity.is_synthetic,
        parent=identity.parent,
        out_of_distribution=describe_familiarity(router, evaluation),
        harness_rules=identity.harness_rules,
        margin=identity.margin,
    )


def with_rungs(manifest: Manifest, rungs: list[Rung], graphs: bytes) -> Manifest:
    """Return the manifest of a ladder; its version names both graphs. The first rung's figures are the router's."""
    of_first = {name: value for name, value in manifest.metrics.items() if name not in ("n", "match_rate")}
    first = msgspec.structs.replace(rungs[0], metrics=of_first, intervals=manifest.intervals)
    return msgspec.structs.replace(
        manifest,
        format_version=LADDER_FORMAT_VERSION,
        version=f"{manifest.version.partition('-')[0]}-{hashlib.sha256(graphs).hexdigest()[:8]}",
        rungs=[first, *rungs[1:]],
    )


def describe_familiarity(router: FittedRouter, evaluation: Evaluation) -> OutOfDistribution | None:
    """Return what the manifest says of the fallback; None where there is none.

    Args:
        router: as published.
        evaluation: of rows that no fit behind their answer has seen.
    """
    if router.familiarity is None:
        return None
    return OutOfDistribution(
        rare_below=RARE_BELOW,
        limit=float(router.familiarity.limit),
        share_calibrate=router.familiarity.share_beyond,
        share_test=evaluation.share_out_of_distribution,
    )
