"""Compare: live rows against a bundle's baseline; `DriftReport` out, as `turnout drift --json` prints it.

Measures, bins and limits are those of the server's metrics (`serving.observe.drift`), so that page and alert agree;
but a repeated prompt that the server's cache answered counts here each time, and there once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec
import numpy as np

from turnout.serving.bundles.baseline import Bins, bins_of
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.bundles.limits import (
    MIN_OUTCOMES,
    MIN_ROWS,
    OUT_OF_DISTRIBUTION,
    DriftReading,
    psi_reading,
    share_reading,
)
from turnout.serving.observe.drift.calibration import calibration_readings
from turnout.serving.observe.drift.window import WINDOW, outcome_sums
from turnout.serving.router.features import STRUCTURAL
from turnout.training.drift.live import LiveRow, LiveRows
from turnout.training.evaluation.dense_blocks import DenseDistance
from turnout.training.evaluation.evaluation import Distribution

P_VALUE = 0.001
"""Least p-value of the permutation test, and the one from which the dense means have moved: the false alarm rate."""

MIN_TASK_ROWS = 200
NO_BASELINE = "no baseline in this bundle"


class DriftMeasure(msgspec.Struct, frozen=True):
    """One measure: its reading, and where it has bins, how baseline and live rows fill them (shares of 1).

    Attributes:
        cuts: (k - 1,) between the k bins; empty where there are none.
    """

    name: str
    value: float
    limit: float
    is_beyond: bool
    cuts: list[float] = []
    expected: list[float] = []
    found: list[float] = []


class TaskDrift(msgspec.Struct, frozen=True):
    """One task with `MIN_TASK_ROWS` or more; what can't be known is None.

    Attributes:
        share_out_of_distribution: of its rows.
        p_match: mean.
        p_match_psi: against the same task of the baseline.
        outcomes: rows whose match is known.
        match_rate: among them.
        calibration_error, brier: of them, from `MIN_OUTCOMES` on.
    """

    name: str
    n: int
    share_out_of_distribution: float
    p_match: float
    p_match_psi: DriftMeasure | None = None
    outcomes: int = 0
    match_rate: float | None = None
    calibration_error: DriftMeasure | None = None
    brier: DriftMeasure | None = None


class DriftMoment(msgspec.Struct, frozen=True):
    """Consecutive rows: when they began, how many they are, and each measure's value over its limit."""

    created_s: float | None
    n: int
    over_limit: dict[str, float]


class DriftReport(msgspec.Struct, frozen=True):
    """What a log says of the traffic since the bundle was measured.

    Attributes:
        measures: those with enough rows, the furthest beyond its limit first.
        unknown: what could not be compared, and why.
        left_out: rows that were not compared, by why.
        moments: the rows in order of time, by `WINDOW`; empty without times.
    """

    bundle: str
    n: int
    since_s: float | None
    until_s: float | None
    measures: list[DriftMeasure]
    dense: DenseDistance | None
    tasks: list[TaskDrift]
    moments: list[DriftMoment]
    unknown: dict[str, str]
    left_out: dict[str, int]

    @property
    def beyond(self) -> list[str]:
        """Names of what has drifted."""
        moved = [one.name for one in self.measures if one.is_beyond]
        return moved + ["dense"] * (self.dense is not None and self.dense.p_value <= P_VALUE)


def compare(
    bundle: Bundle,
    live: LiveRows,
    by_task: dict[str, Distribution],
    dense: DenseDistance | str,
) -> DriftReport:
    """Compare rows with the baseline of a bundle.

    Args:
        bundle: with or without a baseline.
        live: at least one row.
        by_task: the baseline's `p_match` by task, as far as it has one.
        dense: distance of the dense means, or why there is none.
    """
    rows = live.rows
    unknown = {} if isinstance(dense, DenseDistance) else {"dense": dense}
    measures = _request_measures(bundle, rows, unknown) + _outcome_measures(rows, unknown)
    times = [row.created_s for row in rows if row.created_s is not None]
    left_out = {
        "of another time": live.n_outside,
        "decided by other bundles": live.n_other_bundles,
        "decided without the model": live.n_without_model,
        "unreadable": live.n_unreadable,
    }
    return DriftReport(
        bundle=bundle.manifest.bundle_id,
        n=len(rows),
        since_s=min(times, default=None),
        until_s=max(times, default=None),
        measures=sorted(measures, key=lambda one: -one.value / one.limit),
        dense=dense if isinstance(dense, DenseDistance) else None,
        tasks=_tasks(rows, by_task),
        moments=_moments(bundle, rows) if times else [],
        unknown=unknown,
        left_out={why: n for why, n in left_out.items() if n},
    )


def _request_measures(bundle: Bundle, rows: Sequence[LiveRow], unknown: dict[str, str]) -> list[DriftMeasure]:
    if bundle.baseline is None:
        unknown["p_match, structural, out_of_distribution"] = NO_BASELINE
        return []
    found = []
    for bins in bundle.baseline.bins:
        values = _values(bins.name, rows)
        if values.size < MIN_ROWS:
            unknown[bins.name] = f"{values.size} rows, at least {MIN_ROWS} are needed"
        else:
            found.append(_measure(bins, values))
    return found


def _measure(bins: Bins, values: np.ndarray) -> DriftMeasure:
    counts = np.bincount(bins.codes(values), minlength=len(bins.n)).tolist()
    read = share_reading if bins.name == OUT_OF_DISTRIBUTION else psi_reading
    shown = _shown(read(bins.name, bins.n, counts))
    shares = [[one / sum(all_of) for one in all_of] for all_of in (bins.n, counts)]
    return msgspec.structs.replace(shown, cuts=bins.cuts.tolist(), expected=shares[0], found=shares[1])


def _values(name: str, rows: Sequence[LiveRow]) -> np.ndarray:
    """Return what is known of a measure, the structural ones by their place in the vector."""
    if name == "p_match":
        return np.array([row.p_match for row in rows])
    if name == OUT_OF_DISTRIBUTION:
        return np.array([float(row.is_out_of_distribution) for row in rows])
    place = list(STRUCTURAL).index(name)
    return np.array([float(row.structural[place]) for row in rows if row.structural is not None])


def _outcome_measures(rows: Sequence[LiveRow], unknown: dict[str, str]) -> list[DriftMeasure]:
    known = [row for row in rows if row.match is not None]
    if len(known) < MIN_OUTCOMES:
        unknown["calibration_error, brier"] = (
            f"{len(known)} rows with a known match, at least {MIN_OUTCOMES} are needed"
        )
    return [_shown(one) for one in _calibration(known)] + _rung_measures(rows, unknown)


def _rung_measures(rows: Sequence[LiveRow], unknown: dict[str, str]) -> list[DriftMeasure]:
    """Return calibration error and Brier score of each rung between, named `calibration_error:RUNG`."""
    by_rung: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        for name, p, match in row.of_rungs:
            by_rung[name].append((p, float(match)))
    found = []
    for name, pairs in by_rung.items():
        if len(pairs) < MIN_OUTCOMES:
            unknown[f"calibration_error:{name}, brier:{name}"] = (
                f"{len(pairs)} rows with a known match, at least {MIN_OUTCOMES} are needed"
            )
        readings = calibration_readings(outcome_sums(*np.array(pairs).T).tolist())
        found += [msgspec.structs.replace(_shown(one), name=f"{one.measure}:{name}") for one in readings]
    return found


def _calibration(known: Sequence[LiveRow]) -> list[DriftReading]:
    pairs = np.array([(row.p_match, float(row.match or 0)) for row in known]).reshape(-1, 2)
    return calibration_readings(outcome_sums(*pairs.T).tolist())


def _shown(reading: DriftReading) -> DriftMeasure:
    return DriftMeasure(reading.measure, reading.value, reading.limit, reading.is_beyond)


def _tasks(rows: Sequence[LiveRow], by_task: dict[str, Distribution]) -> list[TaskDrift]:
    found: dict[str, list[LiveRow]] = defaultdict(list)
    for row in rows:
        found[row.task].append(row)
    enough = [(name, own) for name, own in found.items() if name and len(own) >= MIN_TASK_ROWS]
    return [_task(name, own, by_task.get(name)) for name, own in sorted(enough, key=lambda one: -len(one[1]))]


def _task(name: str, rows: Sequence[LiveRow], measured: Distribution | None) -> TaskDrift:
    p_match = np.array([row.p_match for row in rows])
    known = [row for row in rows if row.match is not None]
    readings = {one.measure: _shown(one) for one in _calibration(known)}
    psi = None if measured is None else _measure(bins_of("p_match", measured.edges, measured.n), p_match)
    return TaskDrift(
        name=name,
        n=len(rows),
        share_out_of_distribution=float(np.mean([row.is_out_of_distribution for row in rows])),
        p_match=float(p_match.mean()),
        p_match_psi=psi,
        outcomes=len(known),
        match_rate=float(np.mean([row.match for row in known])) if known else None,
        calibration_error=readings.get("calibration_error"),
        brier=readings.get("brier"),
    )


def _moments(bundle: Bundle, rows: Sequence[LiveRow]) -> list[DriftMoment]:
    moments = []
    for start in range(0, len(rows), WINDOW):
        own = rows[start : start + WINDOW]
        measures = _request_measures(bundle, own, {}) + _outcome_measures(own, {})
        if len(own) >= MIN_ROWS:
            over = {one.name: one.value / one.limit for one in measures}
            moments.append(DriftMoment(own[0].created_s, len(own), over))
    return moments
