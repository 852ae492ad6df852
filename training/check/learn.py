"""Learn the second look, where the log holds answers: fit, calibrate, export, and say of each row what it says.

Comes in: answers, labels, and what the first look says of the rows out of fold. Goes out: `LearnedCheck`. Each row with
an answer teaches; what each is told comes from fits without its group, and the calibrators from those answers.
Recalibration keeps the regression of the parent, which has seen none of the rows, and fits the calibrators alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.check.export import export_checker
from turnout.training.check.fit import Checker, calibrated, fit_checker
from turnout.training.check.out_of_fold import OutOfFoldAnswers, fit_maps, new_maps, out_of_fold, told_before
from turnout.training.check.parity import check_parity
from turnout.training.check.reopen import reopen_checker
from turnout.training.check.rows import CheckRows
from turnout.training.check.signal_head import SignalHead, fit_signal_head
from turnout.training.dataset.answers import Answers

MIN_ROWS = 400
MIN_NON_MATCHES = 40
"""With fewer answers that are worse, eight a fold, the regression on answers has nothing to learn from."""

MIN_NEW_ROWS = 100
MIN_NEW_NON_MATCHES = 10
"""Of recalibration, as of the first look's (`training.learn.recalibrate`)."""


@dataclass(frozen=True)
class FirstLook:
    """What the first look says, (n,) each, of rows that its fits have not seen.

    Attributes:
        fast: calibrated log-odds of the fast head: an input of the second look.
        p_route: the largest threshold at which the request goes weak: what the thresholds of the first look cut.
        is_unlike: whether the prompt is unlike the training data.
    """

    fast: Floats
    p_route: Floats
    is_unlike: Bools


@dataclass(frozen=True)
class Rows:
    """Labels of n rows: (n,) `match`, the group of each, its weight in the fit, and its source, empty for unknown."""

    match: Ints
    group: Ints
    weight: Floats
    source: NDArray[np.str_]


@dataclass(frozen=True)
class LearnedCheck:
    """A second look, and what it says of the m rows with an answer.

    Attributes:
        graph: `checker.onnx`.
        place: (m,) numbers of the rows.
        p_checked: (m,) p_match from fits that have not seen the group; NaN where the prompt is unlike the training data
            and no signal counts, which is never accepted.
        p_calibration: (m,) the same by calibrators that have not seen the group either.
        kind: (m,) which signals counted, as `SignalGate.cell`.
        parts: (m, 3) log-odds that prompt, answer and signals add.
        n_sources: sources with signals.
    """

    graph: bytes
    place: Ints
    p_checked: Floats
    p_calibration: Floats
    kind: Ints
    parts: Floats
    n_sources: int


@dataclass(frozen=True)
class NoCheck:
    """Why there is no second look, for people."""

    reason: str


def learn_check(answers: Answers, rows: Rows, first: FirstLook) -> LearnedCheck | NoCheck:
    """Learn the second look from the rows that have the weak answer.

    Args:
        answers: of n labelled rows.
        rows: their labels and groups.
        first: what the first look says of them, out of fold.

    Raises:
        DataRefused: the exported graph misses the Python path.
    """
    if reason := _too_little(answers, rows, MIN_ROWS, MIN_NON_MATCHES):
        return NoCheck(reason)
    taught = answers.place
    match, group, weight = rows.match[taught], rows.group[taught], rows.weight[taught]
    features = CheckRows.of(answers.rows, first.fast[taught])
    told = out_of_fold(features, match, group, weight)
    checker = fit_checker(features, match, weight)
    checker = replace(checker, calibrators=fit_maps(told.raw, match, checker.gate.cell(features)))
    head = fit_signal_head(features, match, rows.source[taught], group)
    alone = head.held_out if head.held_out.size else np.full(taught.size, np.nan)
    return _learned(checker, head, answers, features, told, alone, rows, first)


def recalibrate_check(graph: bytes, answers: Answers, rows: Rows, first: FirstLook) -> LearnedCheck | NoCheck:
    """Calibrate a published second look again; its regression and its signal head stay as they are.

    Args:
        graph: `checker.onnx` of the parent.
        answers: of n labelled rows that the parent has not seen.
        rows: their labels and groups.
        first: what the first look of the new bundle says of them.

    Raises:
        DataRefused: the graph is none that this Turnout wrote, or the new one misses the Python path.
    """
    if reason := _too_little(answers, rows, MIN_NEW_ROWS, MIN_NEW_NON_MATCHES):
        return NoCheck(f"{reason}; a bundle that calibrates it anew needs new rows with answers (weak_response)")
    before, head = reopen_checker(graph)
    features = CheckRows.of(answers.rows, first.fast[answers.place])
    match, group = rows.match[answers.place], rows.group[answers.place]
    told = told_before(before, features, group)
    checker = replace(before, calibrators=new_maps(before, told.raw, match, before.gate.cell(features)))
    return _learned(checker, head, answers, features, told, head.log_odds(features), rows, first, before)


def _too_little(answers: Answers, rows: Rows, least: int, least_worse: int) -> str:
    """Return what is missing, for people; empty where there is enough."""
    n_worse = int((rows.match[answers.place] == 0).sum())
    if answers.place.size >= least and n_worse >= least_worse:
        return ""
    return (
        f"{answers.place.size} rows with the weak model's answer, {n_worse} of them worse; it needs {least} and "
        f"{least_worse}"
    )


def _learned(
    checker: Checker,
    head: SignalHead,
    answers: Answers,
    features: CheckRows,
    told: OutOfFoldAnswers,
    alone: Floats,
    rows: Rows,
    first: FirstLook,
    before: Checker | None = None,
) -> LearnedCheck:
    """Export, hold the graph against the Python path, and put together what the rows were told."""
    cell, is_unlike = checker.gate.cell(features), first.is_unlike[answers.place]
    match = rows.match[answers.place]
    served = calibrated(told.raw, cell, checker.calibrators)
    graph = export_checker(checker, head)
    check_parity(graph, checker, head, answers, features)
    return LearnedCheck(
        graph,
        answers.place,
        expit(np.where(is_unlike, alone, served)),
        expit(np.where(is_unlike, alone, told.crossfitted(match, cell, before))),
        cell,
        told.parts,
        int(np.unique(rows.source[answers.place][cell > 0]).size),
    )
