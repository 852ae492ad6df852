"""Drift of a whole server: the windows of all its workers, added up when the metrics are read.

Gauges of the windows in, two more gauges out: `turnout_drift_ratio` and, beside each, `turnout_drift_limit_ratio`.
A PSI of sums is no sum of PSIs: that is why workers show counts.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from turnout.serving.bundles.limits import MIN_ROWS, OUT_OF_DISTRIBUTION, DriftReading, psi_reading, share_reading
from turnout.serving.observe.catalog import (
    DRIFT_BASELINE,
    DRIFT_LIMIT,
    DRIFT_OUTCOMES,
    DRIFT_RUNG_OUTCOMES,
    DRIFT_VALUE,
    DRIFT_WINDOW,
    named,
)
from turnout.serving.observe.drift.calibration import CUTS, SUMS, calibration_readings

Collect = Callable[[], Iterable[Any]]


class DerivedDrift:
    """A collector of the two gauges, from those of this process."""

    def __init__(self, sources: Iterable[Collect]) -> None:
        """Take what gives the families of the windows."""
        self._sources = tuple(sources)

    def collect(self) -> Iterator[Any]:
        """Return the families."""
        yield from drift_families(family for source in self._sources for family in source())


class WithDrift:
    """A collector that gives all that another one gives, and the two gauges."""

    def __init__(self, collect: Collect) -> None:
        """Take what gives the families of all workers."""
        self._collect = collect

    def collect(self) -> Iterator[Any]:
        """Return the families."""
        families = list(self._collect())
        yield from families
        yield from drift_families(families)


def drift_families(families: Iterable[Any]) -> list[Any]:
    """Return the two families of drift; without samples where windows hold too little."""
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415  # see turnout.serving.observe.metrics

    value, limit = (
        GaugeMetricFamily(metric.full_name, metric.meaning, labels=metric.labels)
        for metric in (named(DRIFT_VALUE), named(DRIFT_LIMIT))
    )
    for bundle, reading in readings(families):
        value.add_metric((bundle, reading.measure), reading.value)
        limit.add_metric((bundle, reading.measure), reading.limit)
    return [value, limit]


def readings(families: Iterable[Any]) -> Iterator[tuple[str, DriftReading]]:
    """Return bundle and reading of each measure of which the windows hold enough."""
    samples = {family.name: family.samples for family in families}
    expected = _counts(samples.get(named(DRIFT_BASELINE).full_name, ()))
    for (bundle, measure), found in _counts(samples.get(named(DRIFT_WINDOW).full_name, ())).items():
        if sum(found) >= MIN_ROWS and (bundle, measure) in expected:
            read = share_reading if measure == OUT_OF_DISTRIBUTION else psi_reading
            yield bundle, read(measure, expected[bundle, measure], found)
    for bundle, sums in _outcome_sums(samples.get(named(DRIFT_OUTCOMES).full_name, ())).items():
        for reading in calibration_readings(sums):
            yield bundle, reading
    for (bundle, rung), sums in _rung_sums(samples.get(named(DRIFT_RUNG_OUTCOMES).full_name, ())).items():
        for reading in calibration_readings(sums):
            yield bundle, dataclasses.replace(reading, measure=f"{reading.measure}:{rung}")


def _counts(samples: Iterable[Any]) -> dict[tuple[str, str], list[float]]:
    """Return the counts of each bundle and measure, bin by bin."""
    by_bin: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for sample in samples:
        by_bin[sample.labels["bundle"], sample.labels["measure"]][int(sample.labels["bin"])] = sample.value
    return {key: [counts[number] for number in sorted(counts)] for key, counts in by_bin.items()}


Sums = list[list[float]]


def _no_sums() -> Sums:
    return [[0.0] * len(SUMS) for _ in range(len(CUTS) + 1)]


def _rung_sums(samples: Iterable[Any]) -> dict[tuple[str, str], Sums]:
    sums: dict[tuple[str, str], Sums] = defaultdict(_no_sums)
    for sample in samples:
        at = sums[sample.labels["bundle"], sample.labels["rung"]]
        at[int(sample.labels["bin"])][SUMS.index(sample.labels["of"])] = sample.value
    return sums


def _outcome_sums(samples: Iterable[Any]) -> dict[str, Sums]:
    sums: dict[str, Sums] = defaultdict(_no_sums)
    for sample in samples:
        sums[sample.labels["bundle"]][int(sample.labels["bin"])][SUMS.index(sample.labels["of"])] = sample.value
    return sums
