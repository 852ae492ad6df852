"""Learning curve: what a router is worth by how many rows it was fitted on.

Comes in: a dataset, its features and its parts. Goes out: `LearningCurve`: one test part, from 500 rows of the fit
part to all, and the size beyond which more rows no longer helped by more than the noise.

Every size is fitted with the default settings on a random subset of the groups of the fit part, each
subset within the next, and calibrated and tested on the same rows, so that the points compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from turnout.training.dataset.dataset import Dataset
from turnout.training.dataset.splits import Part
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.evaluation.evaluate import flat, measure
from turnout.training.evaluation.evaluation import CurvePoint, LearningCurve
from turnout.training.fit.calibrators import fit_platt
from turnout.training.fit.fit import FitSettings, fit_head, fit_scaler, outcome_classes
from turnout.training.fit.losses import paired_excess, row_losses
from turnout.training.progress import Reporter

SIZES = (500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000)
LARGEST_STEP = 0.8
"""A size nearer to the whole fit part than this would show nothing of its own."""

N_BOOTSTRAPS = 300
FIGURES = ("auroc", "apgr", "share_at_quality.0.99", "log_loss")


@dataclass(frozen=True)
class GrowingFits:
    """What fits on more and more rows say of one test part of m rows.

    Attributes:
        test: (m,) row numbers of the test part.
        subsets: row numbers of each fit, each subset within the next.
        log_odds: of each fit, (m,) calibrated log-odds of the test part.
    """

    test: NDArray[np.int64]
    subsets: list[NDArray[np.int64]]
    log_odds: list[NDArray[np.float64]]


def learning_curve(
    data: Dataset, table: FeatureTable, part: NDArray[np.int64], *, seed: int, reporter: Reporter
) -> LearningCurve:
    """Return the learning curve of the labelled rows; `part` (n,) holds the `Part` of each."""
    return curve_of(data, growing_fits(data, table, part, seed=seed, reporter=reporter), seed=seed)


def growing_fits(
    data: Dataset, table: FeatureTable, part: NDArray[np.int64], *, seed: int, reporter: Reporter
) -> GrowingFits:
    """Fit on every size and ask each fit about the test part; `part` (n,) holds the `Part` of each row."""
    fit, test = np.flatnonzero(part == Part.FIT), np.flatnonzero(part == Part.TEST)
    calibrate = np.flatnonzero((part == Part.CALIBRATE) | (part == Part.POLICY))
    subsets = list(_nested(data.groups.group, fit, seed))
    with reporter.stage("Fitting the learning curve", len(subsets)) as advance:
        answers = []
        for rows in subsets:
            answers.append(_log_odds(data, table, rows, calibrate, test))
            advance(1)
    return GrowingFits(test, subsets, answers)


def curve_of(data: Dataset, fits: GrowingFits, *, seed: int) -> LearningCurve:
    """Return what each fit is worth on the test part."""
    test, subsets, answers = fits.test, fits.subsets, fits.log_odds
    losses = [row_losses(log_odds, data.match[test]) for log_odds in answers]
    points = [
        _point(data, test, rows.size, expit(log_odds), paired_excess(loss, losses[-1], data.groups.group[test]), seed)
        for rows, log_odds, loss in zip(subsets, answers, losses, strict=True)
    ]
    enough = next((point.rows for point in points[:-1] if point.excess_loss <= point.excess_loss_se), None)
    return LearningCurve(points, enough)


def _nested(group: NDArray[np.int64], fit: NDArray[np.int64], seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield row numbers of growing subsets of the fit part, whole groups in one random order, then all of it."""
    groups = np.random.default_rng(seed).permutation(np.unique(group[fit]))
    rank = np.empty(int(group.max()) + 1, dtype=np.int64)
    rank[groups] = np.arange(groups.size)
    ordered = fit[np.argsort(rank[group[fit]], kind="stable")]
    for size in SIZES:
        if size < LARGEST_STEP * ordered.size:
            yield np.sort(ordered[:size])
    yield fit


def _log_odds(
    data: Dataset,
    table: FeatureTable,
    rows: NDArray[np.int64],
    calibrate: NDArray[np.int64],
    test: NDArray[np.int64],
) -> NDArray[np.float64]:
    settings = FitSettings(form="four_outcomes" if data.has_scores else "binary")
    target = data.match
    if data.has_scores:
        target = outcome_classes(data.match, data.strong_score, data.weak_score)
    fit_table = table.take(rows)
    scaler = fit_scaler(fit_table, settings)
    head = fit_head(scaler, fit_table, target[rows], settings, with_dense=True, weight=data.weight[rows])
    calibrator = fit_platt(head.log_odds(scaler, table.take(calibrate)), data.match[calibrate])
    return np.asarray(calibrator(head.log_odds(scaler, table.take(test))), dtype=np.float64)


def _point(
    data: Dataset,
    test: NDArray[np.int64],
    n_rows: int,
    p_match: NDArray[np.float64],
    excess: tuple[float, float],
    seed: int,
) -> CurvePoint:
    outcomes = data.outcomes(test, p_match, np.ones(test.size, dtype=bool))
    measured = measure(outcomes, seed=seed, n_bootstraps=N_BOOTSTRAPS)
    figures = flat(measured.metrics)
    return CurvePoint(
        rows=n_rows,
        figures={name: figures[name] for name in FIGURES},
        intervals={name: measured.intervals.get(name) for name in FIGURES},
        excess_loss=excess[0],
        excess_loss_se=excess[1],
    )
