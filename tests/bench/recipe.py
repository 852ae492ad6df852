"""The recipe of `turnout train` on any of the rows of some logs, for benches that fit many routers.

Comes in: logs, and numbers of rows to learn from. Goes out: `Learned`, calibrated and with its policies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from turnout.serving.bundles.manifest import Pair
from turnout.serving.bundles.registry import find_encoder
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.arrays import Ints
from turnout.training.dataset.dataset import Dataset, load_dataset
from turnout.training.encoders.embeddings import FeatureTable, default_cache_dir, embed
from turnout.training.encoders.encoders import DEFAULT_ENCODER, load_encoder
from turnout.training.fit.fit import FitSettings, fit_router, outcome_classes
from turnout.training.fit.out_of_fold import LessonRows, out_of_fold
from turnout.training.fit.router import HeadLogOdds
from turnout.training.fit.unfamiliar import rare_weight, share_without_own_group
from turnout.training.learn.fitting import balance_weight
from turnout.training.policy.solve import LabelledLogOdds, Solved, solve
from turnout.training.progress import Reporter

CHAMPION = FitSettings(form="four_outcomes", c=2.0, dense_scale=0.5)
"""What five folds chose for the shipped bundle."""


@dataclass(frozen=True)
class Rows:
    """Everything that is known of n rows.

    Attributes:
        data: the rows.
        table: their features.
        source: (n,) names.
    """

    data: Dataset
    table: FeatureTable
    source: np.ndarray

    @property
    def group(self) -> Ints:
        """(n,) which rows stay together."""
        return self.data.groups.group

    def lessons(self, rows: Ints, *, balanced: bool) -> LessonRows:
        """Return some rows as what a fit learns from."""
        data = self.data
        match = data.match[rows]
        classes = outcome_classes(match, data.strong_score[rows], data.weak_score[rows])
        weight = balance_weight(self.source[rows].tolist()) if balanced else None
        targets = {"four_outcomes": classes, "binary": match}
        return LessonRows(self.table.take(rows), targets, match, self.group[rows], weight)


@dataclass(frozen=True)
class Learned:
    """A router, what its rows were told out of fold, and the settings of the fit on all of them."""

    solved: Solved
    rows: LabelledLogOdds
    settings: FitSettings


def read(logs: Sequence[Path]) -> Rows:
    """Read, label and embed all rows."""
    reporter = Reporter()
    data = load_dataset(list(logs), Pair(), None, 0.0, reporter, LATEST_HARNESS_RULES).dataset
    prompts = [record.prompt for record in data.records]
    with reporter.stage("Embedding prompts", len(prompts)) as advance:
        encoder = load_encoder(find_encoder(DEFAULT_ENCODER))
        table = embed(
            prompts,
            encoder,
            cache_dir=default_cache_dir(),
            harness_rules=LATEST_HARNESS_RULES,
            n_threads=1,
            on_progress=advance,
        )
    return Rows(data, table, np.array([record.source or "" for record in data.records]))


def learned(rows: Rows, learn: Ints, candidates: Sequence[FitSettings], seed: int, *, balanced: bool) -> Learned:
    """Return the router that `turnout train` makes of some of the rows.

    Args:
        rows: all of them.
        learn: numbers of those that teach.
        candidates: settings to choose from.
        seed: of the draws.
        balanced: whether large sources weigh less, as with `--balance source`.
    """
    lessons, data = rows.lessons(learn, balanced=balanced), rows.data
    kept = {form: outcome for form, outcome in lessons.targets.items() if form in {one.form for one in candidates}}
    lessons = LessonRows(lessons.table, kept, lessons.match, lessons.group, lessons.weight)
    found = out_of_fold(lessons, candidates, n_jobs=1)
    chosen = found.settings
    linear = fit_router(lessons.table, lessons.targets[chosen.form], chosen, weight=lessons.weight)
    said = LabelledLogOdds(
        HeadLogOdds(found.fast, found.full),
        lessons.match,
        data.strong_score[learn],
        data.weak_score[learn],
        lessons.group,
        share_without_own_group(lessons.table, lessons.group),
        fold=found.fold,
    )
    return Learned(solve(linear, said, seed, rare_weight(learn.size)), said, chosen)
