"""Learn the second look, where the log holds answers: fit, calibrate, export, and say what it is worth.

Comes in: the dataset with its parts, and the router with what its fast head says of each row out of fold. Goes out:
`LearnedCheck`. Settings, weights and calibration see the fit and calibration parts alone; the policy part tests the
policies, and the test part gives the figures, both with answers that no fit has seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from turnout.serving.router.answer import Answer, Signals
from turnout.serving.router.checker import CheckerModel, Ngrams
from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.check.export import export_checker
from turnout.training.check.fit import (
    Checker,
    SignalHead,
    calibrated,
    fit_checker,
    fit_maps,
    fit_signal_head,
    out_of_fold,
)
from turnout.training.check.rows import CheckRows, answer_of, check_rows
from turnout.training.dataset.dataset import Dataset
from turnout.training.errors import DataRefused

MIN_ROWS = 400
MIN_NON_MATCHES = 40
"""With fewer answers that are worse, eight a fold, the regression on answers has nothing to learn from."""

PARITY_ROWS = 300
PARITY_TOLERANCE = 1e-5


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
class LearnedCheck:
    """A second look.

    Attributes:
        graph: `checker.onnx`.
        p_checked: (n,) p_match of rows with an answer, from fits that have not seen them; NaN without an answer; -1
            where the prompt is unlike the training data and no signal counts, which is never accepted.
        has_signal: (n,) whether a signal counts.
        n_rows, n_signals: rows that taught it, and those of them with a signal that counts.
        n_sources_with_signals: sources whose leaving out calibrated the signal head.
    """

    graph: bytes
    p_checked: Floats
    has_signal: Bools
    n_rows: int
    n_signals: int
    n_sources_with_signals: int


@dataclass(frozen=True)
class NoCheck:
    """Why there is no second look, for people."""

    reason: str


def learn_check(data: Dataset, learn: Ints, first: FirstLook, ngrams: Ngrams) -> LearnedCheck | NoCheck:
    """Learn the second look from the rows of `learn` that have the weak answer.

    Args:
        data: all rows.
        learn: row numbers of the fit and calibration parts.
        first: of all rows; those of `learn` out of fold.
        ngrams: reads answers as the router reads prompts.

    Raises:
        DataRefused: the exported graph misses the Python path.
    """
    has_answer = np.array([answer_of(row.record) is not None for row in data.rows], dtype=bool)
    taught = learn[has_answer[learn]]
    n_worse = int((data.match[taught] == 0).sum())
    if taught.size < MIN_ROWS or n_worse < MIN_NON_MATCHES:
        return NoCheck(
            f"{taught.size} rows with the weak model's answer, {n_worse} of them worse; it needs {MIN_ROWS} and "
            f"{MIN_NON_MATCHES}"
        )
    answered = np.flatnonzero(has_answer)
    rows = check_rows([data.rows[row].record for row in answered], first.fast[answered], ngrams)
    place = np.full(has_answer.size, -1)
    place[answered] = np.arange(answered.size)
    own = place[taught]
    match, group, weight = data.match[taught], data.groups.group[taught], data.weight[taught]
    source = np.array([data.rows[row].record.source or "" for row in taught])

    raw = out_of_fold(rows.take(own), match, group, weight)
    checker = fit_checker(rows.take(own), match, weight)
    cell = checker.gate.cell(rows.take(own))
    maps = fit_maps(raw, match, cell)
    checker = replace(checker, calibrators=maps)
    head = fit_signal_head(rows.take(own), match, source, group)

    unlike = first.is_unlike[answered]
    p_checked = _served(expit(checker.log_odds(rows)), expit(head.log_odds(rows)), unlike)
    of_taught = calibrated(raw, cell, maps)
    held = head.held_out if head.held_out.size else np.full(taught.size, np.nan)
    p_checked[own] = _served(expit(of_taught), expit(held), unlike[own])
    spread = np.full(has_answer.size, np.nan)
    spread[answered] = p_checked
    graph = export_checker(checker, head)
    _check_parity(graph, checker, head, data, answered, rows, ngrams)
    known = cell > 0
    has_signal = np.zeros(has_answer.size, dtype=bool)
    has_signal[answered] = checker.gate.cell(rows) > 0
    return LearnedCheck(graph, spread, has_signal, taught.size, int(known.sum()), int(np.unique(source[known]).size))


def _served(checker: Floats, signals: Floats, is_unlike: Bools) -> Floats:
    return np.where(is_unlike, np.where(np.isnan(signals), -1.0, signals), checker)


def _check_parity(
    graph: bytes,
    checker: Checker,
    head: SignalHead,
    data: Dataset,
    answered: Ints,
    rows: CheckRows,
    ngrams: Ngrams,
) -> None:
    model = CheckerModel(graph, ngrams)
    some = np.arange(answered.size)[:: max(1, answered.size // PARITY_ROWS)][:PARITY_ROWS]
    whole, alone = expit(checker.log_odds(rows)), expit(head.log_odds(rows))
    for row in some:
        record = data.rows[answered[row]].record
        answer, signals = answer_of(record) or (Answer(), Signals())
        for is_unlike, expected in ((False, whole[row]), (True, alone[row])):
            found = model.check(record.prompt.text, answer, signals, float(rows.first[row]), is_unlike).p_match
            if abs(found - np.nan_to_num(expected)) > PARITY_TOLERANCE:
                raise DataRefused(
                    f"the second look's graph gives {found:.6f} where the Python path gives {expected:.6f}; "
                    "report this as a defect"
                )
