"""Evaluation: what a router is worth on rows it has not seen.

Comes in: `Outcomes`, the rows of the test split with the `p_match` that the served cascade gives them.
Goes out: `Evaluation`, the content of `evaluation.json` and of the report. Definitions stand in
`training.evaluation.metrics`; intervals come from bootstraps of groups (`training.evaluation.bootstrap`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from turnout.training.arrays import Floats, Ints
from turnout.training.dataset.outcomes import Outcomes, refuse_outside_unit
from turnout.training.errors import DataRefused
from turnout.training.evaluation import bootstrap, metrics
from turnout.training.evaluation.baselines import BaselineRanking, standard_baselines
from turnout.training.evaluation.drift_baseline import drift_baseline, p_match_by_task
from turnout.training.evaluation.evaluation import (
    CostQuality,
    Curves,
    Evaluation,
    Histogram,
    LearningCurve,
    Slice,
    Slices,
    write_evaluation,
)
from turnout.training.evaluation.figures import Metrics, ReliabilityBin, flat
from turnout.training.evaluation.label_noise import label_noise
from turnout.training.evaluation.metrics import QualityCurve, Ranking, SourceRanking
from turnout.training.evaluation.slices import slice_all
from turnout.training.evaluation.threshold_table import ServedRows, threshold_table

__all__ = [
    "Difference",
    "Evaluation",
    "Measured",
    "Outcomes",
    "Slice",
    "Slices",
    "evaluate",
    "flat",
    "measure",
    "paired_difference",
    "write_evaluation",
]

QUALITY_SHARES = (0.25, 0.5, 0.75)
KEPT_QUALITIES = (0.98, 0.99)
N_BOOTSTRAPS = 1000
N_HISTOGRAM_BINS = 40
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of one ranking; `band` is the (2, 101) interval of its quality ratio, None without bootstraps."""

    metrics: Metrics
    intervals: dict[str, tuple[float, float] | None]
    band: Floats | None


class Difference(msgspec.Struct, frozen=True):
    """A metric of router `a` less that of router `b` on the same rows, with its paired 95 % interval."""

    metric: str
    a: float | None
    b: float | None
    difference: float | None
    interval: tuple[float, float] | None


def evaluate(
    outcomes: Outcomes,
    *,
    n_seen: int,
    seed: int = 0,
    n_bootstraps: int = N_BOOTSTRAPS,
    on_progress: OnProgress | None = None,
    extra_baselines: Mapping[str, Floats] | None = None,
    served: ServedRows | None = None,
    learning_curve: LearningCurve | None = None,
) -> Evaluation:
    """Return all that is known of a router: figures, curves, slices, thresholds.

    Args:
        outcomes: the rows, those whose group was seen in training left out already.
        n_seen: how many were left out for that.
        seed: of the bootstraps and of the ECE's floor.
        n_bootstraps: 0 for no intervals.
        on_progress: called with bootstraps done and bootstraps in all.
        extra_baselines: further rankers by name, each (n,) of `p_match`.
        served: thresholds and cascade; None leaves out the threshold table and what slices lose.
        learning_curve: kept as it is.
    """
    router = _Judge.of_router(outcomes)
    rankers = _baselines(outcomes, extra_baselines or {})
    judges = {name: _Judge.of(outcomes, baseline) for name, baseline in rankers.items()}
    measured = _measure(router, seed, n_bootstraps, on_progress)
    band = measured.band
    cost_quality = CostQuality(
        strong_share=metrics.SHARE_GRID.tolist(),
        router=_quality_ratios(router.curve()),
        low=None if band is None else band[0].tolist(),
        high=None if band is None else band[1].tolist(),
        baselines={name: _quality_ratios(judge.curve()) for name, judge in judges.items()},
    )
    return Evaluation(
        **{name: getattr(measured.metrics, name) for name in Metrics.__struct_fields__},
        n=len(outcomes.match),
        n_seen_in_training=n_seen,
        match_rate=float(np.mean(outcomes.match)),
        intervals=measured.intervals,
        baselines={name: judge.metrics(floor_seed=seed) for name, judge in judges.items()},
        curves=_curves(outcomes, cost_quality),
        slices=slice_all(
            outcomes, threshold=None if served is None else served.threshold, seed=seed, n_bootstraps=n_bootstraps
        ),
        thresholds=None if served is None else threshold_table(outcomes, served, seed=seed, n_bootstraps=n_bootstraps),
        label_noise=label_noise(outcomes.match, outcomes.confidence),
        drift=drift_baseline(outcomes),
        drift_by_task=p_match_by_task(outcomes),
        learning_curve=learning_curve,
        share_out_of_distribution=float(np.mean(outcomes.falls_back)),
    )


def measure(outcomes: Outcomes, *, seed: int = 0, n_bootstraps: int = N_BOOTSTRAPS) -> Measured:
    """Return the figures of a router and their intervals, without curves, slices and baselines."""
    return _measure(_Judge.of_router(outcomes), seed, n_bootstraps, None)


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


@dataclass(frozen=True, slots=True)
class _Judge:
    """A ranking of the rows, sorted once, to be measured under many draws."""

    outcomes: Outcomes
    ranker: BaselineRanking
    ranking: Ranking
    served: Ranking
    by_source: SourceRanking
    match: Floats = field(repr=False)

    @classmethod
    def of(cls, outcomes: Outcomes, ranker: BaselineRanking) -> _Judge:
        by_source = SourceRanking.of(ranker.rank_by, outcomes.source)
        ranking = Ranking.of(ranker.rank_by)
        return cls(outcomes, ranker, ranking, ranking, by_source, outcomes.match.astype(np.float64))

    @classmethod
    def of_router(cls, outcomes: Outcomes) -> _Judge:  # which also falls back; a baseline does not
        judge = cls.of(outcomes, BaselineRanking(outcomes.p_match, is_probability=True))
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


def _baselines(outcomes: Outcomes, extra: Mapping[str, Floats]) -> dict[str, BaselineRanking]:
    found = standard_baselines(outcomes.match, outcomes.strong_score, outcomes.weak_score, outcomes.prompt_length)
    for name, p_match in extra.items():
        if len(p_match) != len(outcomes.match):
            raise DataRefused(f"baseline {name}: has {len(p_match)} rows, expected {len(outcomes.match)}")
        refuse_outside_unit(f"baseline {name}", p_match)
        found[name] = BaselineRanking(p_match, is_probability=True)
    return found


def _measure(router: _Judge, seed: int, n_bootstraps: int, on_progress: OnProgress | None) -> Measured:
    point = router.metrics(floor_seed=seed)
    points = {"match_rate": float(np.mean(router.match)), **flat(point)}
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
    band = np.quantile(np.array(ratios), bootstrap.TAILS, axis=0) if ratios else None
    return Measured(point, intervals, band)


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
        reliability_before=None if before is None else reliability(before, match),
        reliability_after=reliability(outcomes.p_match, match),
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


def reliability(p_match: Floats, match: Floats) -> list[ReliabilityBin]:
    bins = metrics.calibration_bins(Ranking.of(p_match), p_match, match)
    low, high = metrics.wilson_interval(bins.match_rate, bins.n)
    columns = (bins.p_match, bins.match_rate, bins.n, low, high)
    return [ReliabilityBin(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
