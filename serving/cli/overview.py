"""What an operator wants to know at a glance, from two scrapes: rates between them, levels at the second."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from turnout.serving.cli.scrape import Snapshot
from turnout.serving.observe.catalog import PREFIX


class Overview(msgspec.Struct, frozen=True):
    """The server over the seconds between two scrapes.

    Attributes:
        seconds: between the scrapes.
        requests_per_s: decisions and failures.
        weak_share: share of the decisions that went weak, in [0, 1]; None without decisions, as all shares.
        fast_share: share of the model's decisions that the fast head took.
        by_reason: decisions a second.
        p50_ms: median time of a Route call in the handler, from the histogram; None without calls.
        p99_ms: its 99th percentile.
        failures_per_s: by gRPC code.
        refusals_per_s: by cause.
        cache_hit_share: of the lookups.
        queue_items: waiting or running now.
        in_flight: calls now.
        workers_ready: workers that take calls now.
        workers_hung: workers that were killed and replaced because they hung, since the service started.
        cores: CPU seconds used a second.
        memory_mib: resident memory of all workers now.
        bundles: workers that serve each bundle now.
    """

    seconds: float
    requests_per_s: float
    weak_share: float | None
    fast_share: float | None
    by_reason: dict[str, float]
    p50_ms: float | None
    p99_ms: float | None
    failures_per_s: dict[str, float]
    refusals_per_s: dict[str, float]
    cache_hit_share: float | None
    queue_items: int
    in_flight: int
    workers_ready: int
    workers_hung: int
    cores: float
    memory_mib: float
    bundles: dict[str, int]


def overview(before: Snapshot, now: Snapshot) -> Overview:
    """Return what happened between two scrapes of one server, and how it stands at the second."""
    change = _Change(before, now)
    decisions = change.of("decisions_total")
    failures = change.by("failures_total", "code")
    lookups = change.of("cache_lookups_total")
    seconds = change.seconds
    buckets = change.by("rpc_seconds_bucket", "le", method="Route")
    return Overview(
        seconds=seconds,
        requests_per_s=(decisions + sum(failures.values())) / seconds,
        weak_share=_share(change.of("decisions_total", route="weak"), decisions),
        fast_share=_share(
            change.of("decisions_total", stage="FAST"),
            change.of("decisions_total", stage="FAST") + change.of("decisions_total", stage="FULL"),
        ),
        by_reason=_rates(change.by("decisions_total", "reason"), seconds),
        p50_ms=_milliseconds(histogram_quantile(0.5, buckets)),
        p99_ms=_milliseconds(histogram_quantile(0.99, buckets)),
        failures_per_s=_rates(failures, seconds),
        refusals_per_s=_rates(change.by("refusals_total", "cause"), seconds),
        cache_hit_share=_share(change.of("cache_lookups_total", result="hit"), lookups),
        queue_items=round(now.total(f"{PREFIX}queue_items")),
        in_flight=round(now.total(f"{PREFIX}rpcs_in_flight")),
        workers_ready=round(now.total(f"{PREFIX}worker_ready")),
        workers_hung=round(now.total(f"{PREFIX}worker_ends_total", cause="hung")),
        cores=change.of("worker_cpu_seconds_total") / seconds,
        memory_mib=now.total(f"{PREFIX}worker_memory_bytes") / (1 << 20),
        bundles=_bundles(now),
    )


def histogram_quantile(q: float, counts: Mapping[str, float]) -> float | None:
    """Return the quantile of a histogram, interpolated within its bucket as Prometheus does.

    Args:
        q: in [0, 1].
        counts: cumulative counts by upper bound, `+Inf` among them.

    Returns:
        None for an empty histogram; the highest finite bound when the quantile lies beyond it.
    """
    cumulative = sorted((float(bound), count) for bound, count in counts.items())
    if not cumulative or cumulative[-1][1] <= 0:
        return None
    rank = q * cumulative[-1][1]
    low, below = 0.0, 0.0
    for bound, count in cumulative:
        if count >= rank and count > below:
            return low if math.isinf(bound) else low + (bound - low) * (rank - below) / (count - below)
        low, below = (low if math.isinf(bound) else bound), count
    return low


class _Change:
    """Differences of counters between two scrapes; a server restarted in between counts from zero."""

    def __init__(self, before: Snapshot, now: Snapshot) -> None:
        self.seconds = max(now.at_s - before.at_s, 1e-9)
        self._before = before
        self._now = now

    def of(self, name: str, **labels: str) -> float:
        return sum(self.by(name, "", **labels).values())

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Return the increase of each value of a label; of all together under the empty one."""
        now = _sums(self._now, name, label, labels)
        before = _sums(self._before, name, label, labels)
        if any(count > now.get(group, 0.0) for group, count in before.items()):
            return now
        return {group: count - before.get(group, 0.0) for group, count in now.items()}


def _sums(snapshot: Snapshot, name: str, label: str, labels: Mapping[str, str]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for series in snapshot.matching(PREFIX + name, **labels):
        group = series.labels.get(label, "")
        sums[group] = sums.get(group, 0.0) + series.value
    return sums


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _rates(counts: Mapping[str, float], seconds: float) -> dict[str, float]:
    return {name: count / seconds for name, count in counts.items() if count}


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


def _bundles(now: Snapshot) -> dict[str, int]:
    served: dict[str, int] = {}
    for series in now.matching(f"{PREFIX}bundle_info"):
        if series.value:
            served[series.labels["bundle"]] = served.get(series.labels["bundle"], 0) + 1
    return served
