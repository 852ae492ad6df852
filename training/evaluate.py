"""Evaluation: what a router is worth on rows it has not seen.

Comes in: `Outcomes`, the rows of the test split with the `p_match` that the served cascade gives them.
Goes out: `Evaluation`, the content of `evaluation.json` and of the report. Definitions stand in
`training.metrics`; intervals come from bootstraps of groups (`training.bootstrap`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from training import bootstrap, metrics
from training.baselines import Baseline, standard_baselines
from training.errors import DataRefused
from training.metrics import Floats, Ints, QualityCurve, Ranking, SourceRanking

QUALITY_SHARES = (0.25, 0.5, 0.75)
KEPT_QUALITIES = (0.98, 0.99)
N_BOOTSTRAPS = 1000
N_HISTOGRAM_BINS = 40
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Rows with what the router said of them and what came true; arrays are (n,).

    Attributes:
        p_match: in [0, 1], from the cascade as served.
        match: 0 or 1.
        strong_score, weak_score: 0 to 1; where the labeller gave none, 1 and `match`.
        source, task: names; empty where unknown.
        group: rows with the same number are drawn together.
        prompt_length: in characters.
        is_full: whether the encoder ran.
        p_uncalibrated: what the fit said before calibration, in [0, 1].
        is_out_of_distribution: rows that go strong whatever the threshold; None for none.
    """

    p_match: Floats
    match: Ints
    strong_score: Floats
    weak_score: Floats
    source: list[str]
    group: Ints
    prompt_length: Floats
    task: list[str]
    is_full: NDArray[np.bool_]
    p_uncalibrated: Floats | None = None
    is_out_of_distribution: NDArray[np.bool_] | None = None

    @property
    def rank_by(self) -> Floats:
        """The order in which rows go weak, as served: what is out of distribution comes last."""
        return self.p_match if self.is_out_of_distribution is None else self.p_match - 1.0 * self.is_out_of_distribution

    def __post_init__(self) -> None:
        n = len(self.p_match)
        if n == 0:
            raise DataRefused("evaluation: expected at least one row, got none; were all of them seen in training?")
        for name in self.__slots__:
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise DataRefused(f"evaluation: {name} has {len(column)} rows, p_match has {n}; give one value a row")
        _refuse_outside_unit("p_match", self.p_match)
        _refuse_outside_unit("match", self.match)
        if self.p_uncalibrated is not None:
            _refuse_outside_unit("p_uncalibrated", self.p_uncalibrated)
        if not (np.isfinite(self.strong_score).all() and np.isfinite(self.weak_score).all()):
            raise DataRefused("evaluation: a score is not a finite number; leave out rows without scores")


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


class CostQuality(msgspec.Struct, frozen=True):
    """Mean score over the strong model's at 101 shares to the strong model; None without a strong score.

    Attributes:
        strong_share: 0, 0.01, ..., 1.
        low, high: band of the router; None where there were no bootstraps.
    """

    strong_share: list[float]
    router: list[float] | None
    low: list[float] | None
    high: list[float] | None
    baselines: dict[str, list[float] | None]


class ReliabilityBin(msgspec.Struct, frozen=True):
    """One of 15 bins of equal mass, with the Wilson interval of its match rate (rows taken as independent)."""

    p_match: float
    match_rate: float
    n: float
    low: float
    high: float


class Histogram(msgspec.Struct, frozen=True):
    """Rows, and matches among them, between consecutive edges of `p_match`."""

    edges: list[float]
    n: list[int]
    n_match: list[int]


class Curves(msgspec.Struct, frozen=True):
    """What the report draws."""

    cost_quality: CostQuality
    reliability_before: list[ReliabilityBin] | None
    reliability_after: list[ReliabilityBin]
    p_match: Histogram
    p_uncalibrated: Histogram | None
    brier_reliability: float
    brier_resolution: float
    brier_uncertainty: float


class Slice(msgspec.Struct, frozen=True):
    """The router on the rows of one task, source or stage; `p_match` is its mean."""

    name: str
    n: int
    match_rate: float
    p_match: float
    auroc: float | None
    ece: float
    ece_floor: float


class Slices(msgspec.Struct, frozen=True):
    """Slices, largest first, and how many sources `auroc_within_source` leaves out."""

    task: list[Slice]
    source: list[Slice]
    stage: list[Slice]
    n_sources_left_out: int


class Evaluation(Metrics, frozen=True, kw_only=True):
    """The content of `evaluation.json`; intervals are keyed as in `flat`."""

    n: int
    n_seen_in_training: int
    match_rate: float
    intervals: dict[str, tuple[float, float] | None]
    baselines: dict[str, Metrics]
    curves: Curves
    slices: Slices
    share_out_of_distribution: float = 0.0


class Difference(msgspec.Struct, frozen=True):
    """A metric of router `a` less that of router `b` on the same rows, with its paired 95 % interval."""

    metric: str
    a: float | None
    b: float | None
    difference: float | None
    interval: tuple[float, float] | None


def flat(found: Metrics) -> dict[str, float | None]:
    """Metrics under one level of names: `apgr`, `share_at_quality.0.99`."""
    values: dict[str, float | None] = {}
    for name in Metrics.__struct_fields__:
        value = getattr(found, name)
        values.update(
            {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
        )
    return values


def evaluate(
    outcomes: Outcomes,
    *,
    n_seen: int,
    seed: int = 0,
    n_bootstraps: int = N_BOOTSTRAPS,
    on_progress: OnProgress | None = None,
    extra_baselines: Mapping[str, Floats] | None = None,
) -> Evaluation:
    """Measure a router.

    Args:
        outcomes: the rows, those whose group was seen in training left out already.
        n_seen: how many were left out for that.
        seed: of the bootstraps and of the ECE's floor.
        n_bootstraps: 0 for no intervals.
        on_progress: called with bootstraps done and bootstraps in all.
        extra_baselines: further rankers by name, each (n,) of `p_match`.
    """
    router = _Judge.of_router(outcomes)
    rankers = _baselines(outcomes, extra_baselines or {})
    judges = {name: _Judge.of(outcomes, baseline) for name, baseline in rankers.items()}
    point = router.metrics(floor_seed=seed)
    match_rate = float(np.mean(outcomes.match))
    intervals, band = _intervals(router, {"match_rate": match_rate, **flat(point)}, seed, n_bootstraps, on_progress)
    cost_quality = CostQuality(
        strong_share=metrics.SHARE_GRID.tolist(),
        router=_quality_ratios(router.curve()),
        low=None if band is None else band[0].tolist(),
        high=None if band is None else band[1].tolist(),
        baselines={name: _quality_ratios(judge.curve()) for name, judge in judges.items()},
    )
    return Evaluation(
        **{name: getattr(point, name) for name in Metrics.__struct_fields__},
        n=len(outcomes.match),
        n_seen_in_training=n_seen,
        match_rate=match_rate,
        intervals=intervals,
        baselines={name: judge.metrics(floor_seed=seed) for name, judge in judges.items()},
        curves=_curves(outcomes, cost_quality),
        slices=_slices(outcomes, router, seed),
        share_out_of_distribution=float(np.mean(outcomes.rank_by < outcomes.p_match)),
    )


def paired_difference(
    a: Outcomes, b: Outcomes, metric: str, *, seed: int = 0, n_bootstraps: int = N_BOOTSTRAPS
) -> Difference:
    """Compare two routers on the same rows, in the same order, each bootstrap drawing the same groups for both.

    Args:
        a: one router's outcomes.
        b: the other's.
        metric: a name as in `flat`, such as `apgr` or `share_at_quality.0.99`.
        seed: of the bootstraps.
        n_bootstraps: 0 for no interval.

    Raises:
        DataRefused: the rows differ, or there is no such metric.
    """
    same = all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("match", "group", "strong_score", "weak_score")
    )
    if not same:
        raise DataRefused("comparison: the two routers were not run on the same rows; evaluate both on one file")
    judges = [_Judge.of_router(rows) for rows in (a, b)]
    points = [flat(judge.metrics(floor_seed=seed)) for judge in judges]
    if metric not in points[0]:
        raise DataRefused(f"comparison: unknown metric {metric!r}; known are: {', '.join(points[0])}")
    draws = [
        _less(flat(judges[0].metrics(weights))[metric], flat(judges[1].metrics(weights))[metric])
        for weights in bootstrap.group_draws(a.group, seed, n_bootstraps)
    ]
    difference = _less(points[0][metric], points[1][metric])
    interval = bootstrap.interval(metric, difference, draws)
    return Difference(metric, points[0][metric], points[1][metric], difference, interval)


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write `evaluation` as JSON; a reader sees the old file or the whole new one, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(evaluation), indent=2) + b"\n")
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@dataclass(frozen=True, slots=True)
class _Judge:
    """A ranking of the rows, sorted once, to be measured under many draws."""

    outcomes: Outcomes
    ranker: Baseline
    ranking: Ranking
    served: Ranking
    by_source: SourceRanking
    match: Floats = field(repr=False)

    @classmethod
    def of(cls, outcomes: Outcomes, ranker: Baseline) -> _Judge:
        by_source = SourceRanking.of(ranker.rank_by, outcomes.source)
        ranking = Ranking.of(ranker.rank_by)
        return cls(outcomes, ranker, ranking, ranking, by_source, outcomes.match.astype(np.float64))

    @classmethod
    def of_router(cls, outcomes: Outcomes) -> _Judge:  # which also falls back; a baseline does not
        judge = cls.of(outcomes, Baseline(outcomes.p_match, is_probability=True))
        return replace(judge, served=Ranking.of(outcomes.rank_by))

    def curve(self, weights: Floats | None = None) -> QualityCurve:
        return metrics.quality_curve(self.served, self.outcomes.strong_score, self.outcomes.weak_score, weights)

    def metrics(
        self, weights: Floats | None = None, *, curve: QualityCurve | None = None, floor_seed: int | None = None
    ) -> Metrics:
        """All metrics of one draw; the ECE's floor, which no draw changes, only where a seed is given."""
        curve = curve or self.curve(weights)
        p, is_probability = self.ranker.rank_by, self.ranker.is_probability
        has_floor = is_probability and floor_seed is not None
        return Metrics(
            auroc=metrics.auroc(self.ranking, self.match, weights),
            auroc_within_source=metrics.auroc_within_source(self.by_source, self.match, weights).auroc,
            apgr=metrics.apgr(curve),
            cpt50=metrics.cpt(curve, 0.5),
            cpt80=metrics.cpt(curve, 0.8),
            ece=metrics.ece(self.ranking, p, self.match, weights) if is_probability else None,
            ece_floor=metrics.ece_floor(p, floor_seed or 0) if has_floor else None,
            brier=metrics.brier(p, self.match, weights) if is_probability else None,
            log_loss=metrics.log_loss(p, self.match, weights) if is_probability else None,
            quality_at_share={f"{share:g}": metrics.quality_at_share(curve, share) for share in QUALITY_SHARES},
            share_at_quality={f"{kept:g}": metrics.share_at_quality(curve, kept) for kept in KEPT_QUALITIES},
        )


def _baselines(outcomes: Outcomes, extra: Mapping[str, Floats]) -> dict[str, Baseline]:
    found = standard_baselines(outcomes.match, outcomes.strong_score, outcomes.weak_score, outcomes.prompt_length)
    for name, p_match in extra.items():
        if len(p_match) != len(outcomes.match):
            raise DataRefused(f"baseline {name}: has {len(p_match)} rows, expected {len(outcomes.match)}")
        _refuse_outside_unit(f"baseline {name}", p_match)
        found[name] = Baseline(p_match, is_probability=True)
    return found


def _intervals(
    router: _Judge, points: dict[str, float | None], seed: int, n_bootstraps: int, on_progress: OnProgress | None
) -> tuple[dict[str, tuple[float, float] | None], Floats | None]:
    """Intervals by name, and the (2, 101) band of the quality ratio."""
    draws: dict[str, list[float | None]] = {name: [] for name in points if name != "ece_floor"}
    ratios: list[list[float]] = []
    for done, weights in enumerate(bootstrap.group_draws(router.outcomes.group, seed, n_bootstraps), start=1):
        curve = router.curve(weights)
        ratio = _quality_ratios(curve)
        if ratio is not None:
            ratios.append(ratio)
        found = {
            "match_rate": float(np.average(router.match, weights=weights)),
            **flat(router.metrics(weights, curve=curve)),
        }
        for name, values in draws.items():
            values.append(found[name])
        if on_progress is not None:
            on_progress(done, n_bootstraps)
    intervals = {name: bootstrap.interval(name, points[name], values) for name, values in draws.items()}
    return intervals, np.quantile(np.array(ratios), bootstrap.TAILS, axis=0) if ratios else None


def _less(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _quality_ratios(curve: QualityCurve) -> list[float] | None:
    mean = curve.strong_mean
    return None if mean is None else [float(quality) / mean for quality in curve.at(metrics.SHARE_GRID)]


def _curves(outcomes: Outcomes, cost_quality: CostQuality) -> Curves:
    match = outcomes.match.astype(np.float64)
    parts = metrics.brier_parts(metrics.calibration_bins(Ranking.of(outcomes.p_match), outcomes.p_match, match))
    before = outcomes.p_uncalibrated
    return Curves(
        cost_quality=cost_quality,
        reliability_before=None if before is None else _reliability(before, match),
        reliability_after=_reliability(outcomes.p_match, match),
        p_match=_histogram(outcomes.p_match, outcomes.match),
        p_uncalibrated=None if before is None else _histogram(before, outcomes.match),
        brier_reliability=parts.reliability,
        brier_resolution=parts.resolution,
        brier_uncertainty=parts.uncertainty,
    )


def _histogram(p_match: Floats, match: Ints) -> Histogram:
    edges = np.linspace(0, 1, N_HISTOGRAM_BINS + 1)
    n, n_match = (np.histogram(p_match, edges, weights=weights)[0].astype(int) for weights in (None, match))
    return Histogram(edges.tolist(), n.tolist(), n_match.tolist())


def _reliability(p_match: Floats, match: Floats) -> list[ReliabilityBin]:
    bins = metrics.calibration_bins(Ranking.of(p_match), p_match, match)
    low, high = metrics.wilson_interval(bins.match_rate, bins.n)
    columns = (bins.p_match, bins.match_rate, bins.n, low, high)
    return [ReliabilityBin(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _slices(outcomes: Outcomes, router: _Judge, seed: int) -> Slices:
    stage = ["FULL" if is_full else "FAST" for is_full in outcomes.is_full]
    return Slices(
        task=_slices_by(outcomes, outcomes.task, seed),
        source=_slices_by(outcomes, outcomes.source, seed),
        stage=_slices_by(outcomes, stage, seed),
        n_sources_left_out=metrics.auroc_within_source(router.by_source, router.match).n_left_out,
    )


def _slices_by(outcomes: Outcomes, names: Sequence[str], seed: int) -> list[Slice]:
    column = np.asarray(names, dtype=np.str_)
    found = [_slice(str(name), outcomes, column == name, seed) for name in np.unique(column)]
    return sorted(found, key=lambda item: (-item.n, item.name))


def _slice(name: str, outcomes: Outcomes, rows: NDArray[np.bool_], seed: int) -> Slice:
    p_match, match = outcomes.p_match[rows], outcomes.match[rows].astype(np.float64)
    ranking = Ranking.of(p_match)
    return Slice(
        name=name,
        n=len(match),
        match_rate=float(np.mean(match)),
        p_match=float(np.mean(p_match)),
        auroc=metrics.auroc(ranking, match),
        ece=metrics.ece(ranking, p_match, match),
        ece_floor=metrics.ece_floor(p_match, seed),
    )


def _refuse_outside_unit(name: str, values: NDArray[np.generic]) -> None:
    inside = np.asarray(values, dtype=np.float64)
    if not ((inside >= 0) & (inside <= 1)).all():
        raise DataRefused(
            f"evaluation: {name} holds a value outside [0, 1] or NaN; it must be a probability or a label"
        )
