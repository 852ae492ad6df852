"""Rows of a ladder: each rung labelled against the top, over rows that all rungs share the groups of.

Comes in: what the operator named. Goes out: `LadderRead`: the pair of the two ends as the dataset that pairs have, and
for each rung its labels, where a row has them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from turnout.serving.bundles.manifest import Pair
from turnout.training.arrays import Floats, Ints
from turnout.training.dataset.dataset import PROPENSITY_CLIP, Dataset, dataset_of, usable_rows
from turnout.training.dataset.digests.table import are_digests
from turnout.training.dataset.features.schema import refuse_features
from turnout.training.dataset.ladder_labels import files_of_rungs, stored_of_rung
from turnout.training.dataset.splits import Groups, group_records
from turnout.training.errors import DataRefused
from turnout.training.labels import Labelled, label_records
from turnout.training.logs.quarantine import Rejected
from turnout.training.logs.reading import Reading
from turnout.training.logs.records import Label, LabelledRecord, Record
from turnout.training.logs.requests import LoggedRequest, RequestsRead, read_requests
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
        labels: of each rung but the top, by number of the row.
        pair: the rows with a label of rung 0, in their order, as a pair's.
        in_pair: (m,) their numbers among the n.
        quarantine: rows that could not be read.
        unlabelled: rows without a label of rung 0, by why.
    """

    requests: list[LoggedRequest]
    groups: Groups
    match: Ints
    score: Floats
    weight: Floats
    labels: tuple[dict[int, Label], ...]
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

    @property
    def complete(self) -> Ints:
        """Numbers of the rows that have all labels."""
        return np.flatnonzero((self.match != NO_LABEL).all(axis=1))

    def take(self, rows: Ints) -> LadderRead:
        """Return those rows alone: numbers in ascending order."""
        place = np.full(self.group.size, -1)
        place[rows] = np.arange(rows.size)
        of_pair = np.flatnonzero(place[self.in_pair] >= 0)
        return replace(
            self,
            requests=[self.requests[row] for row in rows.tolist()],
            groups=self.groups.take(rows),
            match=self.match[rows],
            score=self.score[rows],
            weight=self.weight[rows],
            labels=tuple(
                {int(place[row]): label for row, label in of_rung.items() if place[row] >= 0} for of_rung in self.labels
            ),
            pair=self.pair.take(of_pair),
            in_pair=place[self.in_pair[of_pair]],
        )


@dataclass(frozen=True)
class Requests:
    """n requests with a label of at least one rung; of each rung but the top, its labels by number of the request."""

    requests: list[LoggedRequest]
    labels: tuple[dict[int, Label], ...]
    quarantine: list[Rejected]
    unlabelled: dict[str, int]


def load_ladder(
    paths: Sequence[LogFile],
    names: Sequence[str],
    reading: Reading,
    margin: float,
    harness_rules: int,
    reporter: Reporter,
    scores: Path | None = None,
    *,
    may_lack_between: bool = False,
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
        may_lack_between: whether a rung between may have no label at all.

    Raises:
        DataRefused: as `load_dataset`, for a rung that it names.
    """
    may_lack = range(1, len(names) - 1) if may_lack_between else ()
    found = label_requests(paths, names, reading, margin, reporter, scores, may_lack=may_lack)
    ladder = put_together(found, harness_rules, reporter)
    say_rates(ladder, names, reporter)
    return ladder


def label_requests(
    paths: Sequence[LogFile],
    names: Sequence[str],
    reading: Reading,
    margin: float,
    reporter: Reporter,
    scores: Path | None = None,
    *,
    may_lack: Collection[int] = (),
) -> Requests:
    """Read the rows of some logs and label each rung against the top; as `load_ladder`.

    `may_lack` are numbers of rungs of which the logs may hold no label at all.
    """
    refuse_features(paths)
    if are_digests(paths):
        raise DataRefused(
            f"{paths[0]}: a decision log that keeps no prompts, from which pairs alone are learned; a ladder needs the "
            "prompts: log with --log-decisions full, or give gateway logs"
        )
    made = files_of_rungs(reading.labels, names)
    with reporter.stage("Reading logs, two rungs at a time"):
        read = read_requests(paths, names, reading, scores)
    read.refuse_if_mostly_bad()
    for notice in read.notices:
        reporter.say(notice)
    labels: list[dict[int, Label]] = []
    unlabelled: dict[str, int] = {}
    with reporter.stage("Labelling each rung against the top"):
        for rung in range(len(names) - 1):
            if rung in made:
                pair = Pair(strong=names[-1], weak=names[rung])
                said = stored_of_rung(made[rung], paths, pair, reading, margin)
            else:
                said = _labelled(read.requests, rung, names, margin, may_lack=rung in may_lack)
            found, without = _labels(said, read, rung, names, reading, reporter, may_lack=rung in may_lack)
            labels.append(found)
            unlabelled = unlabelled or without
    taught = sorted(set().union(*labels))
    ours = [{number: of_rung[place] for number, place in enumerate(taught) if place in of_rung} for of_rung in labels]
    return Requests([read.requests[place] for place in taught], tuple(ours), read.quarantine, unlabelled)


def put_together(found: Requests, harness_rules: int, reporter: Reporter) -> LadderRead:
    """Return labelled requests, whatever log or store they come from, in groups and as arrays.

    Args:
        found: the requests.
        harness_rules: version of the rules by which texts lose their harness text before they are grouped.
        reporter: what is told of the progress.
    """
    requests, labels = found.requests, found.labels
    with reporter.stage("Grouping near-duplicates"):
        groups = group_records([request.record for request in requests], harness_rules)
    match, score = _arrays(labels, len(requests))
    in_pair = np.array(sorted(labels[0]), dtype=np.int64)
    ends = [LabelledRecord(requests[row].paired(0, len(labels)), labels[0][row]) for row in in_pair.tolist()]
    pair = dataset_of(ends, _some(groups, in_pair), reporter)
    propensity = np.array([request.record.pair_propensity or 1.0 for request in requests])
    weight = 1.0 / np.clip(propensity, PROPENSITY_CLIP, 1.0)
    return LadderRead(requests, groups, match, score, weight, labels, pair, in_pair, found.quarantine, found.unlabelled)


def say_rates(ladder: LadderRead, names: Sequence[str], reporter: Reporter) -> None:
    """Say how many rows compare each rung with the top, and on how many it is not worse."""
    for rung, name in enumerate(names[:-1]):
        known = ladder.match[:, rung] != NO_LABEL
        rate = f"not worse on {ladder.match[known, rung].mean():.1%}" if known.any() else "none"
        reporter.say(f"{name} against {names[-1]}: {int(known.sum())} rows, {rate}")


def _labelled(
    requests: Sequence[LoggedRequest], rung: int, names: Sequence[str], margin: float, *, may_lack: bool
) -> Labelled:
    """Return what labellers say of a rung against the top, where requests hold both answers."""
    top = len(names) - 1
    both = [one for one in requests if rung in one.answers and top in one.answers]
    if not both and not may_lack:
        raise DataRefused(
            f"no row holds answers of both {names[rung]} and {names[top]}; log some requests with both, or train "
            f"without {names[rung]}: leave it out of --models"
        )
    return label_records([one.paired(rung, top) for one in both], margin=margin)


def _labels(
    labelled: Labelled,
    read: RequestsRead,
    rung: int,
    names: Sequence[str],
    reading: Reading,
    reporter: Reporter,
    *,
    may_lack: bool,
) -> tuple[dict[int, Label], dict[str, int]]:
    """Return the labels of a rung by number of the request, and the others counted by why they have none."""
    why = {str(reason): count for reason, count in labelled.unlabelled.items()}
    if may_lack and not labelled.labelled:
        return {}, why
    try:
        usable = usable_rows(labelled, reading, reporter)
    except DataRefused as refused:
        raise DataRefused(f"{names[rung]} against {names[-1]}: {refused}") from refused
    return {read.number[one.record.place]: one.label for one in usable}, why


def _arrays(labels: Sequence[dict[int, Label]], n: int) -> tuple[Ints, Floats]:
    """Return `LadderRead.match` and `LadderRead.score`."""
    k = len(labels) + 1
    match = np.full((n, k - 1), NO_LABEL, dtype=np.int64)
    score = np.full((n, k), np.nan)
    every = [label for of_rung in labels for label in of_rung.values()]
    is_scored = all(one.strong_score is not None and one.weak_score is not None for one in every)
    for rung, of_rung in enumerate(labels):
        for row, label in of_rung.items():
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
