"""Assess: before any commitment, whether these logs are enough and what a router on them would be worth.

Comes in: a dataset and its features. Goes out: `Assessment`: a learning curve on one test part, from 500
rows to all, and the size beyond which more rows no longer helped by more than the noise.

Every size is fitted with the default settings on a random subset of the groups of the fit part, each
subset within the next, and calibrated and tested on the same rows, so that the points compare.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from training.calibrators import fit_platt
from training.dataset import Dataset
from training.embeddings import FeatureTable
from training.evaluate import evaluate, flat
from training.fit import FitSettings, fit_head, fit_scaler, outcome_classes
from training.progress import Reporter
from training.splits import Part, split_groups

SIZES = (500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000)
LARGEST_STEP = 0.8
"""A size nearer to the whole fit part than this would show nothing of its own."""

N_BOOTSTRAPS = 300
FIGURES = ("auroc", "apgr", "share_at_quality.0.99", "log_loss")


class CurvePoint(msgspec.Struct, frozen=True):
    """What a router fitted on so many rows is worth on the test part.

    Attributes:
        rows: rows fitted on.
        figures: by name; None where undefined.
        intervals: 95 %, by the same names.
        excess_loss: mean log loss above that of the whole fit part, in nats, row by row.
        excess_loss_se: its standard error, over groups.
    """

    rows: int
    figures: dict[str, float | None]
    intervals: dict[str, tuple[float, float] | None]
    excess_loss: float
    excess_loss_se: float


class Assessment(msgspec.Struct, frozen=True):
    """What an operator should know before training.

    Attributes:
        labelled, groups, non_matches: usable rows, their groups, and rows with a worse weak answer.
        test_rows: rows that every point is measured on.
        curve: from the smallest size to the whole fit part.
        enough_rows: smallest size whose log loss is above that of the whole fit part by no more than one
            standard error of the paired difference; None when none is: then more rows are likely to help.
    """

    labelled: int
    groups: int
    non_matches: int
    test_rows: int
    match_rate: float
    curve: list[CurvePoint]
    enough_rows: int | None


def assess(data: Dataset, table: FeatureTable, *, seed: int, reporter: Reporter) -> Assessment:
    """Return the learning curve of the labelled rows and what follows from it."""
    part = split_groups(data.records, data.groups.group, seed)
    fit, test = np.flatnonzero(part == Part.FIT), np.flatnonzero(part == Part.TEST)
    calibrate = np.flatnonzero((part == Part.CALIBRATE) | (part == Part.POLICY))
    subsets = list(_nested(data.groups.group, fit, seed))
    with reporter.stage("Fitting the learning curve", len(subsets)) as advance:
        answers = []
        for rows in subsets:
            answers.append(_p_match(data, table, rows, calibrate, test))
            advance(1)
    losses = [_row_losses(p_match, data.match[test]) for p_match in answers]
    curve = [
        _point(data, test, rows.size, p_match, paired_excess(loss, losses[-1], data.groups.group[test]), seed)
        for rows, p_match, loss in zip(subsets, answers, losses, strict=True)
    ]
    return Assessment(
        labelled=len(data.rows),
        groups=data.groups.n_groups,
        non_matches=int((data.match == 0).sum()),
        test_rows=int(test.size),
        match_rate=float(data.match.mean()),
        curve=curve,
        enough_rows=next((point.rows for point in curve[:-1] if point.excess_loss <= point.excess_loss_se), None),
    )


def paired_excess(
    loss: NDArray[np.float64], reference: NDArray[np.float64], group: NDArray[np.int64]
) -> tuple[float, float]:
    """Return the mean of `loss - reference` over (n,) rows and its standard error, groups being what is independent."""
    difference = loss - reference
    totals = np.bincount(group, weights=difference - difference.mean())
    return float(difference.mean()), float(np.sqrt((totals**2).sum()) / difference.size)


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


def _p_match(
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
    return np.asarray(expit(calibrator(head.log_odds(scaler, table.take(test)))), dtype=np.float64)


def _row_losses(p_match: NDArray[np.float64], match: NDArray[np.int64]) -> NDArray[np.float64]:
    return -np.log(np.where(match == 1, p_match, 1.0 - p_match))


def _point(
    data: Dataset,
    test: NDArray[np.int64],
    n_rows: int,
    p_match: NDArray[np.float64],
    excess: tuple[float, float],
    seed: int,
) -> CurvePoint:
    outcomes = data.outcomes(test, p_match, np.ones(test.size, dtype=bool))
    evaluation = evaluate(outcomes, n_seen=0, seed=seed, n_bootstraps=N_BOOTSTRAPS)
    figures = flat(evaluation)
    return CurvePoint(
        rows=n_rows,
        figures={name: figures[name] for name in FIGURES},
        intervals={name: evaluation.intervals.get(name) for name in FIGURES},
        excess_loss=excess[0],
        excess_loss_se=excess[1],
    )
