"""What `DescribeModel` says of a bundle: its manifest, as far as callers need it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from google.protobuf.message import DecodeError

from turnout.serving.bundles.ladder import Rung
from turnout.serving.bundles.manifest import Manifest
from turnout.serving.bundles.policy import CheckedPolicy, Policy
from turnout.serving.errors import InvalidRequest
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.wire.route import rung_message


def read_describe(raw: bytes) -> str:
    """Return the bundle that the bytes of a `DescribeModelRequest` ask for, empty for the default.

    Raises:
        InvalidRequest: the bytes are undecodable.
    """
    try:
        return str(pb.DescribeModelRequest.FromString(raw).bundle)
    except DecodeError:
        raise InvalidRequest("the request is not a turnout.v1.DescribeModelRequest") from None


def description(
    manifest: Manifest, served: Sequence[str], unseen: Sequence[str] = (), *, has_second_look: bool = False
) -> Any:
    """Return the `DescribeModelResponse` of one of the bundles served; `served` are the ids of all.

    Args:
        manifest: of the bundle.
        served: ids of all bundles that this server answers from.
        unseen: what the bundle's training never had.
        has_second_look: whether it can check answers.
    """
    encoder = manifest.encoder
    return pb.DescribeModelResponse(
        bundle=manifest.bundle_id,
        created=manifest.created,
        synthetic=manifest.synthetic,
        strong_model=manifest.pair.strong,
        weak_model=manifest.pair.weak,
        encoder=pb.Encoder(name=encoder.name, sha256=encoder.sha256, max_tokens=encoder.max_tokens, dim=encoder.dim),
        calibrator=manifest.calibrator,
        default_policy=manifest.default_policy,
        policies=[_policy(policy) for policy in manifest.policies],
        figures=[_figure(name, value, manifest.intervals.get(name)) for name, value in manifest.metrics.items()],
        served=served,
        unseen=unseen,
        has_second_look=has_second_look,
        ladder=[_rung(rung) for rung in manifest.ladder],
    )


def _rung(rung: Rung) -> Any:
    figures = [_figure(name, value, rung.intervals.get(name)) for name, value in rung.metrics.items()]
    return rung_message(rung, rows=rung.rows, match_rate=rung.match_rate, figures=figures)


def _policy(policy: Policy) -> Any:
    return pb.Policy(
        name=policy.name,
        kind=policy.kind,
        target=policy.target,
        threshold=policy.threshold,
        is_met=policy.is_met,
        share_weak=policy.share_weak,
        quality_kept=policy.quality_kept,
        share_worse=policy.share_worse,
        share_worse_bound=policy.share_worse_bound,
        delta=policy.delta,
        checked=None if policy.checked is None else pb.CheckedPolicy(**_set(policy.checked)),
        t_rungs=() if policy.t_rungs is msgspec.UNSET else policy.t_rungs,
    )


def _set(policy: CheckedPolicy) -> dict[str, Any]:
    """Return the fields that are set."""
    fields = msgspec.structs.asdict(policy)
    return {name: value for name, value in fields.items() if value is not msgspec.UNSET}


def _figure(name: str, value: float | None, interval: tuple[float, float] | None) -> Any:
    low, high = interval or (None, None)
    return pb.Figure(name=name, value=value, low=low, high=high)
