"""Assess: before any commitment, whether these logs are enough and what a router on them would be worth.

Comes in: a dataset and its features. Goes out: `Assessment`: what is usable, and the learning curve.
"""

from __future__ import annotations

import msgspec

from training.dataset import Dataset
from training.embeddings import FeatureTable
from training.evaluation import CurvePoint
from training.learning_curve import learning_curve
from training.progress import Reporter
from training.splits import Part, split_groups


class Assessment(msgspec.Struct, frozen=True):
    """What an operator should know before training.

    Attributes:
        labelled, groups, non_matches: usable rows, their groups, and rows with a worse weak answer.
        test_rows: rows that every point is measured on.
        curve: from the smallest size to the whole fit part.
        enough_rows: as in `LearningCurve`.
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
    found = learning_curve(data, table, part, seed=seed, reporter=reporter)
    return Assessment(
        labelled=len(data.rows),
        groups=data.groups.n_groups,
        non_matches=int((data.match == 0).sum()),
        test_rows=int((part == Part.TEST).sum()),
        match_rate=float(data.match.mean()),
        curve=found.points,
        enough_rows=found.enough_rows,
    )
