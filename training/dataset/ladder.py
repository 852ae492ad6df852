"""Rows of a ladder: each rung labelled against the top, over rows that all rungs share the groups of.

Comes in: what the operator named. Goes out: `LadderRead`: the pair of the two ends as the dataset that pairs have, and
for each rung its labels, where a row has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from turnout.training.arrays import Floats, Ints
from turnout.training.dataset.dataset import Dataset, dataset_of, usable_rows
from turnout.training.dataset.digests.table import refuse_digests
from turnout.training.dataset.features.schema import refuse_features
from turnout.training.dataset.splits import Groups, group_records
from turnout.training.errors import DataRefused
from turnout.training.labels import label_records
from turnout.training.logs.quarantine import Rejected
from turnout.training.logs.reading import Reading
from turnout.training.logs.records import LabelledRecord, Record
from turnout.training.logs.requests import Request, read_requests
from turnout.training.logs.stored_files import LogFile
from turnout.training.progress import Reporter

NO_LABEL = -1


@dataclass(frozen=True)
class LadderRead:
    """n rows with a label of at least one rung of k.

    Attributes:
        requests: the rows.
        groups: which rows belong together.
        match: (n, k - 1) 0 or 1, whether a rung is not worse than the top; `NO_LABEL` where nobody says.
        score: (n, k) in [0, 1]; where labellers scored not all rows, 1 of the top and `match`; NaN without a label.
        weight: (n,) 1 / pair propensity, clipped.
        pair: the rows with a label of rung 0, in their order, as a pair's.
        in_pair: (m,) their numbers among the n.
        quarantine: rows that could not be read.
        unlabelled: rows without a label of rung 0, by why.
    """

    requests: list[Request]
    groups: Groups
    match: Ints
    score: Floats
    weight: Floats
    pair: Dataset
    in_pair: Ints
    quarantine: list[Rejected]
    unlabelled: dict[str, int]

    @property
    def group(self) -> Ints:
        """(n,) group of each row."""
        return self.groups.group

    @property
    def records(self) -> list[Record]:
        """Of the n rows."""
        return [request.record for request in self.requests]


def load_ladder(
    paths: Sequence[LogFile],
    names: Sequence[str],
    reading: Reading,
    margin: float,
    harness_rules: int,
    reporter: Reporter,
    scores: Path | None = None,
) -> LadderRead:
    """Read, label and group the rows of some logs.

    Args:
        paths: logs, in the order of their rows.
        names: of the rungs, the cheapest first.
        reading: how the logs are to be read.
        margin: by how much a rung's score may be lower than the top's and still match.
        harness_rules: version of the rules by which texts lose their harness text before they are grouped.
        reporter: what is told of the progress.
        scores: table of further models' scores; None for none.

    Raises:
        DataRefused: as `load_dataset`, for a rung that it names.
    """
    refuse_features(paths)
    refuse_digests(paths)
    if reading.labels is not None:
        raise DataRefused(f"{reading.labels}: labels made before are of a pair; leave out --labels beside --models")
    with reporter.stage("Reading logs, two rungs at a time"):
        read = read_requests(paths, names, reading, scores)
    top = len(names) - 1
    labels: list[dict[int, LabelledRecord]] = []
    unlabelled: dict[str, int] = {}
    with reporter.stage("Labelling each rung against the top"):
        for rung in range(top):
            found, without = _labels(read.requests, rung, names, reading, margin, reporter)
            labels.append(found)
            unlabelled = unlabelled or without
    taught = sorted(set().union(*labels))
    requests = [read.requests[place] for place in taught]
    with reporter.stage("Grouping near-duplicates"):
        groups = group_records([request.record for request in requests], harness_rules)
    ours = [{number: of_rung[place] for number, place in enumerate(taught) if place in of_rung} for of_rung in labels]
    match, score = _arrays(ours, len(taught))
    in_pair = np.array(sorted(ours[0]), dtype=np.int64)
    pair = dataset_of([ours[0][number] for number in in_pair.tolist()], _some(groups, in_pair), reporter)
    propensity = np.array([request.record.pair_propensity or 1.0 for request in requests])
    ladder = LadderRead(
        requests,
        groups,
        match,
        score,
        1.0 / np.clip(propensity, 0.01, 1.0),
        pair,
        in_pair,
        read.quarantine,
        unlabelled,
    )
    for rung, name in enumerate(names[:-1]):
        known = match[:, rung] != NO_LABEL
        rate = match[known, rung].mean()
        reporter.say(f"{name} against {names[-1]}: {int(known.sum())} rows, not worse on {rate:.1%}")
    return ladder


def _labels(
    requests: Sequence[Request], rung: int, names: Sequence[str], reading: Reading, margin: float, reporter: Reporter
) -> tuple[dict[int, LabelledRecord], dict[str, int]]:
    """Return the labels of a rung by number of the request, and the others counted by why they have none."""
    top = len(names) - 1
    places = [place for place, one in enumerate(requests) if rung in one.answers and top in one.answers]
    if not places:
        raise DataRefused(
            f"no row holds answers of both {names[rung]} and {names[top]}; log some requests with both, or leave "
            f"{names[rung]} out of --models"
        )
    records = [replace(requests[place].paired(rung, top), index=place) for place in places]
    labelled = label_records(records, margin=margin)
    try:
        usable = usable_rows(labelled, reading, reporter)
    except DataRefused as refused:
        raise DataRefused(f"{names[rung]} against {names[top]}: {refused}") from refused
    why = {str(reason): count for reason, count in labelled.unlabelled.items()}
    return {one.record.index: _at(one, requests[one.record.index].record.index) for one in usable}, why


def _at(one: LabelledRecord, index: int) -> LabelledRecord:
    return LabelledRecord(replace(one.record, index=index), one.label)


def _arrays(labels: Sequence[dict[int, LabelledRecord]], n: int) -> tuple[Ints, Floats]:
    """Return `LadderRead.match` and `LadderRead.score`."""
    k = len(labels) + 1
    match = np.full((n, k - 1), NO_LABEL, dtype=np.int64)
    score = np.full((n, k), np.nan)
    every = [one.label for of_rung in labels for one in of_rung.values()]
    is_scored = all(one.strong_score is not None and one.weak_score is not None for one in every)
    for rung, of_rung in enumerate(labels):
        for row, one in of_rung.items():
            label = one.label
            match[row, rung] = label.match
            score[row, rung] = label.weak_score if is_scored else label.match
            if np.isnan(score[row, -1]):
                score[row, -1] = label.strong_score if is_scored else 1.0
    return match, score


def _some(groups: Groups, rows: Ints) -> Groups:
    """Return the groups of some rows, numbered by appearance: what ties two of them may be a row that is left out."""
    names, first, number = np.unique(groups.group[rows], return_index=True, return_inverse=True)
    place = np.empty(names.size, dtype=np.int64)
    place[np.argsort(first)] = np.arange(names.size)
    keys = [groups.keys[row] for row in rows.tolist()]
    return Groups(place[number], keys, groups.n_near_duplicates, groups.split_sizes)
