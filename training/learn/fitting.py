"""Fitting: settings are chosen, a regression learns from all rows, and each row is answered without its group.

Comes in: labelled rows and their features. Goes out: `Fitted`, what `training.learn.flow` solves policies with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnout.training.arrays import Floats, Ints
from turnout.training.dataset.costs import CostsUnknown, RequestCosts, request_costs
from turnout.training.dataset.dataset import Dataset
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.evaluation.baselines import dense_logistic_baseline
from turnout.training.fit.difficulty import Difficulty, read_difficulty
from turnout.training.fit.fit import FitSettings, LinearRouter, outcome_classes
from turnout.training.fit.many_rows import JUDGED, choose_on_some, fit_and_answer, some_groups
from turnout.training.fit.out_of_fold import N_FOLDS, LessonRows
from turnout.training.fit.router import HeadLogOdds
from turnout.training.fit.select import candidates_of
from turnout.training.fit.unfamiliar import rare_weight, share_without_own_group
from turnout.training.learn.flow import AnsweredRows
from turnout.training.learn.ladder import LadderLessons
from turnout.training.learn.settings import TrainSettings
from turnout.training.policy.solve import LabelledLogOdds
from turnout.training.progress import Reporter

BALANCED_ROWS = 600
"""Rows of a source up to which each counts once under `balance`; beyond, a source weighs by the root of its rows."""


@dataclass(frozen=True)
class Fitted:
    """The regression, the settings behind it, and what rows were told by fits without their group."""

    linear: LinearRouter
    settings: FitSettings
    answered: AnsweredRows


def fit(
    data: Dataset,
    kept: Ints,
    table: FeatureTable,
    settings: TrainSettings,
    reporter: Reporter,
    over_all: LadderLessons | None,
    *,
    has_text: bool,
) -> Fitted:
    """Choose settings, fit on all rows, and answer them out of fold; of very many only `JUDGED`."""
    group = data.groups.group[kept]
    lessons = _lessons(data, kept, table, _difficulty(data, settings, reporter), settings)
    forms = list(lessons.targets)
    tried = [settings.fit] if settings.fit else candidates_of(forms, kept.size, wide=settings.wide_search)
    source = [data.rows[row].record.source or "" for row in kept]
    with reporter.stage(f"Choosing among {len(tried)} settings, every row answered without its group"):
        tried = choose_on_some(lessons, tried, source, settings.seed)
        found, linear = fit_and_answer(lessons, tried)
    chosen = found.settings
    judged = some_groups(group, source, JUDGED, settings.seed)
    if judged.size < kept.size:
        reporter.say(f"Calibrators, policies and figures rest on {judged.size} of {kept.size} rows, groups by chance")
    fold, all_kept, is_rounded = found.fold[judged], kept, table.is_rounded
    rare_share = share_without_own_group(table, group, judged)
    kept, table, group = kept[judged], table.take(judged), group[judged]
    records = [data.rows[row].record for row in kept]
    costs = request_costs(records, settings.pair) if over_all is None else over_all.costs_of_ends
    if isinstance(costs, CostsUnknown):
        reporter.say(f"No cost policies: {costs.reason}")
    answered = AnsweredRows(
        data,
        kept,
        table,
        LabelledLogOdds(
            HeadLogOdds(found.fast[judged], found.full[judged]),
            data.match[kept],
            data.strong_score[kept],
            data.weak_score[kept],
            group,
            rare_share,
            costs if isinstance(costs, RequestCosts) else None,
            data.pair_propensity[kept],
            fold,
        ),
        {"encoder_lr": _encoder_only(table, data.match[kept], fold)},
        has_text=has_text,
        is_rounded=is_rounded,
        rare_idf=rare_weight(all_kept.size),
    )
    return Fitted(linear, chosen, answered)


def balance_weight(sources: list[str]) -> Floats:
    """Return (n,) weights of mean 1 by which a source of many rows counts for less: the root of `BALANCED_ROWS` / rows.

    On the reference rows of two files it costs 0.002 AUROC on the rows of the first (95 % -0.005 to +0.001).
    """
    _, place, size = np.unique(sources, return_inverse=True, return_counts=True)
    weight = np.sqrt(np.minimum(1.0, BALANCED_ROWS / size))[place]
    return np.asarray(weight / weight.mean(), dtype=np.float64)


def _lessons(
    data: Dataset, kept: Ints, table: FeatureTable, difficulty: Difficulty | None, settings: TrainSettings
) -> LessonRows:
    match = data.match[kept]
    targets = {"binary": match}
    if data.has_scores:
        classes = outcome_classes(data.match, data.strong_score, data.weak_score)
        others = {} if difficulty else targets  # other models' scores soften the four outcomes, and no binary label
        targets = {"four_outcomes": classes[kept], **others}
    weight = data.weight[kept]
    if settings.balance:
        weight = weight * balance_weight([data.rows[row].record.source or "" for row in kept])
    return LessonRows(table, targets, match, data.groups.group[kept], weight, difficulty and difficulty.take(kept))


def _encoder_only(table: FeatureTable, match: Ints, fold: Ints) -> Floats:
    """Return (n,) `p_match` of a plain regression on the sentence vectors, on the same folds."""
    p_match = np.empty(match.size)
    for one in range(N_FOLDS):
        others, held_out = fold != one, fold == one
        p_match[held_out] = dense_logistic_baseline(table.dense[others], match[others], table.dense[held_out])
    return p_match


def _difficulty(data: Dataset, settings: TrainSettings, reporter: Reporter) -> Difficulty | None:
    if settings.scores is None:
        return None
    with reporter.stage("Reading other models' scores"):
        found = read_difficulty(settings.scores, settings.pair, data.records, data.groups.group)
    n_scored = int(np.isfinite(found.scores).any(axis=1).sum())
    reporter.say(f"Scores of {found.scores.shape[1]} other models on {n_scored} of {len(data.rows)} rows")
    return found
