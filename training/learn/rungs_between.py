"""The rungs between of a run: their heads, learned or calibrated again, and what rows are told of them.

Comes in: rows with labels of each rung. Goes out: `Between`: the heads as they are served, and for every row p of each
rung between from fits, and for figures also from calibrators, that have not seen its group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import expit
from sklearn.model_selection import GroupKFold

from turnout.serving.bundles.ladder import Rung
from turnout.training.arrays import Floats, Ints
from turnout.training.dataset.ladder import NO_LABEL, LadderRead
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.errors import DataRefused
from turnout.training.fit.calibrate import N_FOLDS
from turnout.training.fit.calibrators import fit_platt
from turnout.training.fit.fit import FitSettings
from turnout.training.fit.rungs import RungFit, answer_rung, fit_rungs
from turnout.training.progress import Reporter

MIN_GROUPS = 200
MIN_NON_MATCHES = 20
"""Of a rung's labels, as of a pair's (`training.learn.train`); of rows with all labels the groups."""

MIN_GROUPS_AGAIN = 100
MIN_NON_MATCHES_AGAIN = 10
"""To calibrate a rung again, as to calibrate a pair (`training.learn.recalibrate`)."""


@dataclass(frozen=True)
class RungBetween:
    """What was said of one rung between.

    Attributes:
        p: (n,) by the calibrator that is served; NaN where no head that has not seen the row can speak of it.
        rows: (m,) numbers of the rows that have its label.
        p_fair: (m,) of these, by calibrators that have not seen the row either.
        ranked: (m,) before calibration, for figures of the ranking.
    """

    p: Floats
    rows: Ints
    p_fair: Floats
    ranked: Floats


@dataclass(frozen=True)
class Between:
    """The rungs between.

    Attributes:
        fit: their heads, as served.
        told: of each, the cheapest first.
        kept: by number of the rung, those that too few new rows speak of, as the parent describes them: head and
            calibrator are the parent's, and no policy takes them.
    """

    fit: RungFit
    told: list[RungBetween]
    kept: dict[int, Rung] = field(default_factory=dict)


Heads = Callable[[LadderRead, FeatureTable], Between]
"""Makes the rungs between, from all rows and their features."""


def labelled(read: LadderRead, rung: int) -> Ints:
    """Return the numbers of the rows that have a rung's label."""
    return np.flatnonzero(read.match[:, rung] != NO_LABEL)


def refuse_too_few(read: LadderRead, names: Sequence[str]) -> None:
    """Refuse labels that no head, or no policy over all rungs, can rest on; the message says what to log.

    Raises:
        DataRefused: a rung between has too few labels, or too few rows have all.
    """
    for rung, name in enumerate(names[:-1]):
        known = read.match[:, rung] != NO_LABEL
        groups, worse = np.unique(read.group[known]).size, int((read.match[known, rung] == 0).sum())
        if groups < MIN_GROUPS or worse < MIN_NON_MATCHES:
            raise DataRefused(
                f"{int(known.sum())} rows in {groups} groups compare {name} with {names[-1]}, and {name} is worse on "
                f"{worse}; a rung needs at least {MIN_GROUPS} groups and {MIN_NON_MATCHES} such rows: log more, or "
                f"train without {name}: leave it out of --models"
            )
    full = read.complete
    groups = np.unique(read.group[full]).size
    if groups < MIN_GROUPS:
        raise DataRefused(
            f"{full.size} rows in {groups} groups hold an outcome of every rung, and policies over all rungs need "
            f"{MIN_GROUPS} groups; log some requests with all of {', '.join(names)}, or train a pair"
        )


def learn_between(read: LadderRead, table: FeatureTable, settings: FitSettings) -> Between:
    """Learn a head of each rung between, every row answered by fits without its group."""
    answers = [
        answer_rung(table, read.match[:, rung], read.group, labelled(read, rung), read.weight, settings)
        for rung in range(1, read.match.shape[1])
    ]
    fit = fit_rungs(table, read.match[:, 1:], read.weight, answers, settings)
    told = []
    for rung, (one, line) in enumerate(zip(answers, fit.calibrators, strict=True), start=1):
        p = np.full(read.group.size, np.nan)
        p[one.rows] = expit(line(one.raw))
        match = read.match[one.rows, rung]
        told.append(RungBetween(p, one.rows, _by_other_folds(one.raw, match, one.fold), expit(one.raw)))
    return Between(fit, told)


def recalibrate_between(
    read: LadderRead, table: FeatureTable, fit: RungFit, rungs: Sequence[Rung], reporter: Reporter
) -> Between:
    """Calibrate heads again that have seen none of the rows; a rung that too few of them speak of keeps its own.

    Args:
        read: the rows.
        table: their features.
        fit: the parent's heads.
        rungs: of the ladder, as the parent describes them.
        reporter: is told which rungs keep their own.
    """
    lines, told, kept = list(fit.calibrators), [], {}
    for number, head in enumerate(fit.heads):
        rung, raw = number + 1, np.asarray(head.log_odds(fit.scaler, table), dtype=np.float64)
        rows = labelled(read, rung)
        match, group = read.match[rows, rung], read.group[rows]
        n_groups, n_worse = np.unique(group).size, int((match == 0).sum())
        fair = expit(lines[number](raw[rows]))
        if n_groups < MIN_GROUPS_AGAIN or n_worse < MIN_NON_MATCHES_AGAIN:
            kept[rung] = rungs[rung]
            reporter.say(
                f"{rungs[rung].name} keeps its calibrator, and no policy takes it: {rows.size} new rows in {n_groups} "
                f"groups compare it with {rungs[-1].name}, and it is worse on {n_worse}; {MIN_GROUPS_AGAIN} groups and "
                f"{MIN_NON_MATCHES_AGAIN} such rows are needed: log some requests with all of the models"
            )
        else:
            fold = np.empty(rows.size, np.int64)
            for one, (_, held_out) in enumerate(GroupKFold(N_FOLDS).split(match, groups=group)):
                fold[held_out] = one
            lines[number], fair = fit_platt(raw[rows], match), _by_other_folds(raw[rows], match, fold)
        told.append(RungBetween(expit(lines[number](raw)), rows, fair, expit(raw[rows])))
    return Between(replace(fit, calibrators=tuple(lines)), told, kept)


def _by_other_folds(raw: Floats, match: Ints, fold: Ints) -> Floats:
    """Return (m,) p by Platt's line of the other folds."""
    p = np.empty(raw.size)
    for one in np.unique(fold):
        held_out = fold == one
        p[held_out] = expit(fit_platt(raw[~held_out], match[~held_out])(raw[held_out]))
    return p
