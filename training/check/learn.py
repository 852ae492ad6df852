"""Learn the second look, where the log holds answers: fit, calibrate, export, and say of each row what it says.

Comes in: labelled records, and what the first look says of them out of fold. Goes out: `LearnedCheck`. Every row with
an answer teaches; what each is told comes from fits without its group, and the calibrators from those answers.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from turnout.training.errors import DataRefused
from turnout.training.logs.records import Record

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
class Rows:
    """Labels of n rows: (n,) `match`, the group of each, and its weight in the fit."""

    match: Ints
    group: Ints
    weight: Floats


@dataclass(frozen=True)
class LearnedCheck:
    """A second look.

    Attributes:
        graph: `checker.onnx`.
        p_checked: (n,) p_match of rows with an answer, from fits that have not seen their group; NaN without an answer;
            -1 where the prompt is unlike the training data and no signal counts, which is never accepted.
        has_signal: (n,) whether a signal counts.
        n_rows: rows that taught it.
        n_sources: sources with signals, each left out whole once.
    """

    graph: bytes
    p_checked: Floats
    has_signal: Bools
    n_rows: int
    n_sources: int


@dataclass(frozen=True)
class NoCheck:
    """Why there is no second look, for people."""

    reason: str


def learn_check(records: Sequence[Record], rows: Rows, first: FirstLook, ngrams: Ngrams) -> LearnedCheck | NoCheck:
    """Learn the second look from the rows that have the weak answer.

    Args:
        records: of n labelled rows.
        rows: their labels and groups.
        first: what the first look says of them, out of fold.
        ngrams: reads answers as the router reads prompts.

    Raises:
        DataRefused: the exported graph misses the Python path.
    """
    has_answer = np.array([answer_of(record) is not None for record in records], dtype=bool)
    taught = np.flatnonzero(has_answer)
    match, group, weight = rows.match[taught], rows.group[taught], rows.weight[taught]
    n_worse = int((match == 0).sum())
    if taught.size < MIN_ROWS or n_worse < MIN_NON_MATCHES:
        return NoCheck(
            f"{taught.size} rows with the weak model's answer, {n_worse} of them worse; it needs {MIN_ROWS} and "
            f"{MIN_NON_MATCHES}"
        )
    answered = [records[row] for row in taught.tolist()]
    features = check_rows(answered, first.fast[taught], ngrams)
    source = np.array([record.source or "" for record in answered])
    raw = out_of_fold(features, match, group, weight)
    checker = fit_checker(features, match, weight)
    cell = checker.gate.cell(features)
    maps = fit_maps(raw, match, cell)
    checker = replace(checker, calibrators=maps)
    head = fit_signal_head(features, match, source, group)

    alone = head.held_out if head.held_out.size else np.full(taught.size, np.nan)
    p_checked, has_signal = np.full(has_answer.size, np.nan), np.zeros(has_answer.size, dtype=bool)
    p_checked[taught] = _served(expit(calibrated(raw, cell, maps)), expit(alone), first.is_unlike[taught])
    has_signal[taught] = cell > 0
    graph = export_checker(checker, head)
    _check_parity(graph, checker, head, answered, features, ngrams)
    return LearnedCheck(graph, p_checked, has_signal, taught.size, int(np.unique(source[cell > 0]).size))


def _served(checker: Floats, signals: Floats, is_unlike: Bools) -> Floats:
    return np.where(is_unlike, np.where(np.isnan(signals), -1.0, signals), checker)


def _check_parity(
    graph: bytes, checker: Checker, head: SignalHead, records: Sequence[Record], rows: CheckRows, ngrams: Ngrams
) -> None:
    model = CheckerModel(graph, ngrams)
    some = range(0, len(records), max(1, len(records) // PARITY_ROWS))
    whole, alone = expit(checker.log_odds(rows)), expit(head.log_odds(rows))
    for row in some:
        answer, signals = answer_of(records[row]) or (Answer(), Signals())
        for is_unlike, expected in ((False, whole[row]), (True, alone[row])):
            found = model.check(records[row].prompt.text, answer, signals, float(rows.first[row]), is_unlike).p_match
            if abs(found - np.nan_to_num(expected)) > PARITY_TOLERANCE:
                raise DataRefused(
                    f"the second look's graph gives {found:.6f} where the Python path gives {expected:.6f}; "
                    "report this as a defect"
                )
