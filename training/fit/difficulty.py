"""Difficulty: what other models scored on the same prompts, as a second opinion on noisy labels.

Comes in: a long table `source, prompt_id, model, score`, and the rows that teach. Goes out: soft
targets for the four outcomes. Needed in training alone: the router still reads nothing but the prompt.

One run of a model is a noisy label: of questions run twice, only 67 % of the strong-only wins repeat.
How other models fared on the same prompt says how likely each outcome was, so a row keeps 70 % of its own
label and takes 30 % from a small regression on their scores (Lopez-Paz et al. 2016, "Unifying
distillation and privileged information"). Both models of the pair are left out of the table, in every
spelling, and a row's second opinion never rests on labels of its own group.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from turnout.serving.bundles.manifest import Pair
from turnout.training.arrays import Floats, Ints
from turnout.training.errors import DataRefused
from turnout.training.logs.records import Record
from turnout.training.logs.scores import score_rows

N_OUTCOMES = 4
OPINION_SHARE = 0.3
"""Share of the target that the other models' scores give: 0.25 to 0.5 raise AUROC by 0.002, 0.75 and more lower
every figure (docs/decisions/training/0007)."""

MIN_SOURCE_ROWS = 60
"""A source with fewer scored rows keeps its labels as they are."""

N_FOLDS = 5
OPINION_C = 0.3
COVERAGE = 0.5
"""A model counts for a source when it scored more than this share of its scored rows."""


@dataclass(frozen=True)
class Difficulty:
    """Other models' scores of n rows.

    Attributes:
        scores: (n, m) float64 in [0, 1], NaN where a model did not answer.
        source: (n,) number of each row's source.
        group: (n,) which rows stay together.
    """

    scores: Floats
    source: Ints
    group: Ints

    def take(self, rows: Ints) -> Difficulty:
        """Return those rows only."""
        return Difficulty(self.scores[rows], self.source[rows], self.group[rows])

    def soften(self, outcome: Ints) -> Floats:
        """Return (n, 4) targets, rows summing to 1: the label, and where there is one the second opinion.

        Args:
            outcome: (n,) class of `outcome_classes`, 0 to 3.
        """
        target = np.eye(N_OUTCOMES)[outcome]
        is_scored = np.isfinite(self.scores).any(axis=1)
        for source in np.unique(self.source):
            rows = np.flatnonzero((self.source == source) & is_scored)
            if rows.size >= MIN_SOURCE_ROWS and np.unique(self.group[rows]).size >= N_FOLDS:
                opinion = _opinion(_measures(self.scores[rows]), outcome[rows], self.group[rows])
                target[rows] = (1.0 - OPINION_SHARE) * target[rows] + OPINION_SHARE * opinion
        return target


def read_difficulty(path: Path, pair: Pair, records: Sequence[Record], group: Ints) -> Difficulty:
    """Return the scores that models outside the pair got on the records.

    Args:
        path: Parquet, CSV or JSONL with the fields of `ScoreRow`; further rows and columns are ignored.
        pair: left out in every spelling: snapshots, vendor prefixes, suffixes after a hyphen.
        records: found by source and id.
        group: (n,) group of each record.

    Raises:
        DataRefused: the file or a row of it can't be read, or it holds no score for any record.
    """
    rows_of: dict[tuple[str, str], list[int]] = {}
    for row, record in enumerate(records):
        rows_of.setdefault((record.source or "", record.id), []).append(row)
    found = [
        (row, one.model, one.score)
        for one in score_rows(path)
        if not is_of_pair(one.model, pair)
        for row in rows_of.get((one.source or "", str(one.prompt_id)), ())
    ]
    if not found:
        raise DataRefused(
            f"{path}: no score of a model other than {pair.strong} and {pair.weak} for any row of the logs; source and "
            "prompt_id must be the source and id of the log rows"
        )
    models = {model: column for column, model in enumerate(sorted({model for _, model, _ in found}))}
    scores = np.full((len(records), len(models)), np.nan)
    for row, model, score in found:
        scores[row, models[model]] = score
    source = np.unique([record.source or "" for record in records], return_inverse=True)[1]
    return Difficulty(scores, source.astype(np.int64), group)


def is_of_pair(model: str, pair: Pair) -> bool:
    """Whether a name may mean a model of the pair; errs on the side of leaving out (`gpt-4o-audio` for `gpt-4o`)."""
    bare = model.rsplit("/", 1)[-1].casefold()
    return any(
        bare == name or bare.startswith((f"{name}-", f"{name}_", f"{name}:", f"{name}@")) for name in _names(pair)
    )


def _names(pair: Pair) -> Iterable[str]:
    return (name.rsplit("/", 1)[-1].casefold() for name in (pair.strong, pair.weak))


def _measures(scores: Floats) -> Floats:
    """Return (n, m + 2) standardised: each model's score, absent ones at its mean; the row's mean; its square."""
    kept = scores[:, np.isfinite(scores).mean(axis=0) > COVERAGE]
    by_model = np.where(np.isfinite(kept), kept, np.nanmean(kept, axis=0)) if kept.size else kept
    mean = np.nanmean(scores, axis=1, keepdims=True)
    measures = np.hstack([by_model, mean, mean**2])
    return np.asarray((measures - measures.mean(axis=0)) / (measures.std(axis=0) + 1e-6), dtype=np.float64)


def _opinion(measures: Floats, outcome: Ints, group: Ints) -> Floats:
    """Return (n, 4) probabilities of the outcomes, each row's from rows of other groups."""
    opinion = np.zeros((outcome.size, N_OUTCOMES))
    for train, held_out in GroupKFold(N_FOLDS).split(outcome, groups=group):
        classes = np.unique(outcome[train])
        if classes.size == 1:
            opinion[held_out, classes[0]] = 1.0
            continue
        regression = LogisticRegression(C=OPINION_C, max_iter=200).fit(measures[train], outcome[train])
        opinion[np.ix_(held_out, classes)] = regression.predict_proba(measures[held_out])
    return opinion
