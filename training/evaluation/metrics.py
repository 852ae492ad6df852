"""Metrics of a ranking by `p_match`, one definition each.

Comes in: arrays over the rows of the test split. Goes out: plain numbers, None where undefined.

Ties count as the mean over their orders. That mean is a straight line through the run of equal
`p_match`, so every curve here is piecewise linear with its knots between runs, and a share that cuts
a row in two takes its fraction. Row weights are multiplicities: weight 2 is the row twice. The sort is
done once (`Ranking`, `SourceRanking`) and serves every bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.training.arrays import Floats, Ints

MIN_GAP = 0.01
"""Below this gap between the models' mean scores, ratios over the gap are noise: PGR is None."""
MIN_SOURCE_ROWS = 20
N_ECE_BINS = 15
N_FLOOR_DRAWS = 200
_LABELS_AT_ONCE = 1_000_000  # 8 MB
LOG_LOSS_CLIP = 1e-6
SHARE_GRID: Floats = np.arange(101) / 100
_ROUNDING = 1e-12
_Z = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Ranking:
    """Rows in ascending `p_match`, and where each run of equal `p_match` begins.

    Attributes:
        order: (n,) row numbers, lowest `p_match` first.
        starts: (k,) positions in `order` at which a new `p_match` begins; `starts[0]` is 0.
    """

    order: Ints
    starts: Ints

    @classmethod
    def of(cls, p_match: Floats) -> Ranking:
        """Sort at least one row."""
        order = np.argsort(p_match, kind="stable")
        return cls(order, _run_starts(p_match[order]))

    def run_sums(self, values: Floats) -> Floats:
        """(k,) sum of `values` (n,) over each run."""
        sums: Floats = np.add.reduceat(values[self.order], self.starts)
        return sums


@dataclass(frozen=True, slots=True)
class SourceRanking:
    """Rows sorted by source, then by `p_match`.

    Attributes:
        runs: the rows in that order; a run does not reach over two sources.
        source_starts: (s,) number of each source's first run.
    """

    runs: Ranking
    source_starts: Ints

    @classmethod
    def of(cls, p_match: Floats, source: Sequence[str]) -> SourceRanking:
        """Sort at least one row."""
        codes = np.unique(np.asarray(source, dtype=np.str_), return_inverse=True)[1]
        order = np.lexsort((p_match, codes))
        begins = np.zeros(len(order), dtype=np.bool_)
        begins[_run_starts(p_match[order])] = True
        begins[_run_starts(codes[order])] = True
        starts = np.flatnonzero(begins)
        return cls(Ranking(order, starts), _run_starts(codes[order][starts]))


@dataclass(frozen=True, slots=True)
class QualityCurve:
    """Q(c): mean score when the lowest `c` of the rows go to the strong model, linear between knots.

    Attributes:
        strong_share: (k + 1,) knots from 0 to 1.
        quality: (k + 1,) Q at the knots: the weak model's mean first, the strong model's last.
    """

    strong_share: Floats
    quality: Floats

    @property
    def gap(self) -> float | None:
        """Mean score of the strong model less that of the weak one; None where under `MIN_GAP`."""
        gap = float(self.quality[-1] - self.quality[0])
        return gap if gap >= MIN_GAP - _ROUNDING else None

    @property
    def strong_mean(self) -> float | None:
        """Mean score of the strong model; None where it is 0, and no ratio to it exists."""
        mean = float(self.quality[-1])
        return mean if mean > _ROUNDING else None

    def at(self, strong_share: Floats) -> Floats:
        """Q at the given shares."""
        return np.interp(strong_share, self.strong_share, self.quality)


def quality_curve(
    ranking: Ranking, strong_score: Floats, weak_score: Floats, weights: Floats | None = None
) -> QualityCurve:
    """Q(c) of the ranking. Arrays are (n,); the weights must not all be 0."""
    weights = _ones_if_none(weights, ranking)
    mass = ranking.run_sums(weights)
    gain = ranking.run_sums(weights * (strong_score - weak_score))
    drawn = mass > 0
    reached = _cumulated(mass[drawn])
    quality = (float(weights @ weak_score) + _cumulated(gain[drawn])) / reached[-1]
    return QualityCurve(reached / reached[-1], quality)


def pgr(curve: QualityCurve, strong_share: Floats) -> Floats | None:
    """Share of the gap between the models that is recovered at each share to the strong one."""
    gap = curve.gap
    return None if gap is None else (curve.at(strong_share) - curve.quality[0]) / gap


def apgr(curve: QualityCurve) -> float | None:
    """Area under PGR by the trapezoid rule over 0, 0.01, ..., 1: random is 0.5."""
    recovered = pgr(curve, SHARE_GRID)
    return None if recovered is None else float(np.trapezoid(recovered, SHARE_GRID))


def cpt(curve: QualityCurve, recovered: float) -> float | None:
    """Smallest share to the strong model from which PGR stays at or above `recovered`."""
    gap = curve.gap
    if gap is None:
        return None
    excess = (curve.quality - curve.quality[0]) / gap - recovered
    below = np.flatnonzero(excess < -_ROUNDING)
    return 0.0 if len(below) == 0 else _crossing(curve.strong_share, excess, int(below[-1]))


def share_at_quality(curve: QualityCurve, kept: float) -> float | None:
    """Largest share to the weak model at which the mean score is at least `kept` of the strong model's."""
    mean = curve.strong_mean
    if mean is None:
        return None
    excess = curve.quality - kept * mean
    first = int(np.argmax(excess >= -_ROUNDING))
    return 1.0 if first == 0 else 1.0 - _crossing(curve.strong_share, excess, first - 1)


def quality_at_share(curve: QualityCurve, weak_share: float) -> float | None:
    """Mean score over the strong model's when that share of the rows goes to the weak model."""
    mean = curve.strong_mean
    return None if mean is None else float(curve.at(np.array([1.0 - weak_share]))[0]) / mean


def auroc(ranking: Ranking, match: Floats, weights: Floats | None = None) -> float | None:
    """Probability that a random match has a higher `p_match` than a random miss, ties half; None with one class."""
    weights = _ones_if_none(weights, ranking)
    positive, negative = ranking.run_sums(weights * match), ranking.run_sums(weights * (1 - match))
    pairs = float(positive.sum() * negative.sum())
    return None if pairs == 0 else float(positive @ (np.cumsum(negative) - negative / 2)) / pairs


@dataclass(frozen=True, slots=True)
class WithinSource:
    """Size-weighted mean of the sources' AUROC, and how many sources were too small or of one class."""

    auroc: float | None
    n_left_out: int


def auroc_within_source(ranking: SourceRanking, match: Floats, weights: Floats | None = None) -> WithinSource:
    """AUROC inside each source, averaged by its rows: what is left once "which source is this" is known."""
    weights = _ones_if_none(weights, ranking.runs)
    positive, negative = ranking.runs.run_sums(weights * match), ranking.runs.run_sums(weights * (1 - match))
    before = np.cumsum(negative) - negative
    n_positive = np.add.reduceat(positive, ranking.source_starts)
    n_negative = np.add.reduceat(negative, ranking.source_starts)
    wins = np.add.reduceat(positive * (before + negative / 2), ranking.source_starts)
    wins -= before[ranking.source_starts] * n_positive
    rows = n_positive + n_negative
    counted = (n_positive > 0) & (n_negative > 0) & (rows >= MIN_SOURCE_ROWS)
    n_left_out = int(np.count_nonzero(~counted))
    if not counted.any():
        return WithinSource(None, n_left_out)
    by_source = wins[counted] / (n_positive[counted] * n_negative[counted])
    return WithinSource(float(np.average(by_source, weights=rows[counted])), n_left_out)


@dataclass(frozen=True, slots=True)
class CalibrationBins:
    """Bins of equal mass along `p_match`: rows in each, their mean `p_match` and their match rate; all (b,)."""

    n: Floats
    p_match: Floats
    match_rate: Floats


def calibration_bins(
    ranking: Ranking, p_match: Floats, match: Floats, weights: Floats | None = None, n_bins: int = N_ECE_BINS
) -> CalibrationBins:
    """Cut the ranking into bins of exactly equal mass; a run on an edge is shared out in proportion."""
    weights = _ones_if_none(weights, ranking)
    mass = ranking.run_sums(weights)
    drawn = mass > 0
    reached = _cumulated(mass[drawn])
    edges = np.arange(n_bins + 1) / n_bins * reached[-1]

    def bin_sums(values: Floats) -> Floats:
        return np.diff(np.interp(edges, reached, _cumulated(ranking.run_sums(weights * values)[drawn])))

    rows = np.diff(edges)
    return CalibrationBins(rows, bin_sums(p_match) / rows, bin_sums(match) / rows)


def ece(ranking: Ranking, p_match: Floats, match: Floats, weights: Floats | None = None) -> float:
    """Expected calibration error: L1 over 15 bins of equal mass. Read it beside its floor."""
    bins = calibration_bins(ranking, p_match, match, weights)
    return float(np.average(np.abs(bins.match_rate - bins.p_match), weights=bins.n))


def ece_floor(p_match: Floats, seed: int = 0, n_draws: int = N_FLOOR_DRAWS) -> float:
    """The ECE that a perfect router would show on so many rows: mean over labels drawn from `p_match` itself."""
    return float(np.mean(ece_by_chance(p_match, seed, n_draws)))


def ece_by_chance(
    p_match: Floats, seed: int = 0, n_draws: int = N_FLOOR_DRAWS, weights: Floats | None = None
) -> Floats:
    """(n_draws,) ECEs of a perfect router on so many rows, one for each draw of labels from `p_match` itself."""
    order = np.argsort(p_match, kind="stable")  # so that the order of the rows changes nothing
    ordered = p_match[order]
    ranking = Ranking.of(ordered)
    shares = _bin_shares(ranking, np.ones(order.size) if weights is None else weights[order])
    rng = np.random.default_rng(seed)
    at_once = max(1, _LABELS_AT_ONCE // ordered.size)
    found = []
    for first in range(0, n_draws, at_once):
        labels = rng.random((min(at_once, n_draws - first), ordered.size)) < ordered
        found.append(np.abs((labels - ordered) @ shares).sum(axis=1))
    errors: Floats = np.concatenate(found) / shares.sum()
    return errors


def _bin_shares(ranking: Ranking, weights: Floats, n_bins: int = N_ECE_BINS) -> Floats:
    """(n, n_bins) what each row of a ranking that is in order gives to each bin of `calibration_bins`."""
    mass = ranking.run_sums(weights)
    reached = _cumulated(mass)
    edges = np.arange(n_bins + 1) / n_bins * reached[-1]
    ends = np.minimum(reached[1:, None], edges[1:])
    inside = np.clip(ends - np.maximum(reached[:-1, None], edges[:-1]), 0.0, None)
    of_run = np.repeat(inside / np.maximum(mass, _ROUNDING)[:, None], np.diff(ranking.starts, append=weights.size), 0)
    shares: Floats = of_run * weights[:, None]
    return shares


def brier(p_match: Floats, match: Floats, weights: Floats | None = None) -> float:
    """Mean squared difference between `p_match` and the label."""
    return float(np.average((p_match - match) ** 2, weights=weights))


def log_loss(p_match: Floats, match: Floats, weights: Floats | None = None) -> float:
    """Mean negative log likelihood in nats, `p_match` clipped to [1e-6, 1 - 1e-6]."""
    clipped = np.clip(p_match, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
    return float(np.average(-np.log(np.where(match > 0, clipped, 1 - clipped)), weights=weights))


@dataclass(frozen=True, slots=True)
class BrierParts:
    """Brier = reliability - resolution + uncertainty, but for the spread inside bins (Murphy 1973)."""

    reliability: float
    resolution: float
    uncertainty: float


def brier_parts(bins: CalibrationBins) -> BrierParts:
    """Decompose the Brier score over calibration bins."""
    rate = float(np.average(bins.match_rate, weights=bins.n))
    return BrierParts(
        reliability=float(np.average((bins.p_match - bins.match_rate) ** 2, weights=bins.n)),
        resolution=float(np.average((bins.match_rate - rate) ** 2, weights=bins.n)),
        uncertainty=rate * (1 - rate),
    )


def wilson_interval(rate: Floats, n: Floats) -> tuple[Floats, Floats]:
    """95 % score interval of a rate seen on `n` independent rows (Wilson 1927)."""
    centre = (rate + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * np.sqrt(rate * (1 - rate) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def _run_starts(ordered: NDArray[np.generic]) -> Ints:
    return np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))


def _cumulated(values: Floats) -> Floats:
    return np.concatenate(([0.0], np.cumsum(values)))


def _ones_if_none(weights: Floats | None, ranking: Ranking) -> Floats:
    return np.ones(len(ranking.order)) if weights is None else weights


def _crossing(share: Floats, excess: Floats, below: int) -> float:
    """Share at which `excess` reaches 0 between the knot `below`, where it is negative, and the next."""
    fraction = excess[below] / (excess[below] - excess[below + 1])
    return float(share[below] + min(fraction, 1.0) * (share[below + 1] - share[below]))
