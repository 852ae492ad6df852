"""Dataset: labelled, grouped rows as the arrays that fit, calibration, policy and evaluation read."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.manifest import Pair
from turnout.training.dataset.answers import Answers
from turnout.training.dataset.digests.table import refuse_digests
from turnout.training.dataset.features.schema import refuse_features
from turnout.training.dataset.measures import PromptMeasures
from turnout.training.dataset.outcomes import Outcomes
from turnout.training.dataset.splits import LARGEST_GROUP_SHARE, Groups, group_records
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.errors import DataRefused
from turnout.training.labels import Labelled, Unlabelled, agreement, label_records
from turnout.training.labels.stored import digest_file, origin_of, stored_labels
from turnout.training.logs.read import ReadResult, read_records
from turnout.training.logs.reading import Reading
from turnout.training.logs.records import LabelledRecord, Record
from turnout.training.logs.stored_files import LogFile
from turnout.training.progress import Advance, Reporter

ONE_SIDED_SHARE = 0.01
"""Undecided rows for each row labelled by agreement, above which those labels are left out."""

PROPENSITY_CLIP = 0.01
"""Least pair propensity that weighs a row; below it one row would count for more than a hundred."""


@dataclass(frozen=True)
class Dataset:
    """Labelled rows in the order of their files and lines; arrays are (n,).

    Attributes:
        rows: the records with their labels.
        groups: which rows belong together.
        match: 0 or 1.
        strong_score, weak_score: 0 to 1; where the labeller gave none, 1 and `match`.
        has_scores: whether the labellers scored every row.
        weight: 1 / pair propensity, clipped; 1 where it is unknown.
        measures: of the prompts; None measures those that the records hold.
    """

    rows: list[LabelledRecord]
    groups: Groups
    match: NDArray[np.int64]
    strong_score: NDArray[np.float64]
    weak_score: NDArray[np.float64]
    has_scores: bool
    weight: NDArray[np.float64]
    measures: PromptMeasures | None = None

    @property
    def effective_rows(self) -> float:
        """Rows of equal weight that estimate a mean as well (Kish): the sum squared over the sum of squares."""
        return float(self.weight.sum() ** 2 / np.square(self.weight).sum())

    @property
    def pair_propensity(self) -> NDArray[np.float64]:
        """(n,) with what probability both answers were obtained; NaN where nobody says, as in logs of every request."""
        found = (row.record.pair_propensity or np.nan for row in self.rows)
        return np.fromiter(found, dtype=np.float64, count=len(self.rows))

    @property
    def records(self) -> list[Record]:
        """The records alone."""
        return [row.record for row in self.rows]

    @cached_property
    def prompt_measures(self) -> PromptMeasures:
        """Of all rows: as they were read, or measured once."""
        return self.measures or PromptMeasures.of(self.records)

    def take(self, rows: NDArray[np.int64]) -> Dataset:
        """Return those rows alone: numbers in ascending order, whole groups."""
        return replace(
            self,
            rows=[self.rows[row] for row in rows],
            groups=self.groups.take(rows),
            match=self.match[rows],
            strong_score=self.strong_score[rows],
            weak_score=self.weak_score[rows],
            weight=self.weight[rows],
            measures=self.measures and self.measures.take(rows),
        )

    def outcomes(
        self,
        rows: NDArray[np.int64],
        p_match: NDArray[np.float64],
        is_full: NDArray[np.bool_],
        p_uncalibrated: NDArray[np.float64] | None = None,
        is_out_of_distribution: NDArray[np.bool_] | None = None,
        structural: NDArray[np.float32] | None = None,
    ) -> Outcomes:
        """Return what `evaluate` reads, for (m,) row numbers and what the router said of them."""
        records = [self.rows[row].record for row in rows]
        measures = self.prompt_measures.take(rows)
        return Outcomes(
            p_match=p_match,
            match=self.match[rows],
            strong_score=self.strong_score[rows],
            weak_score=self.weak_score[rows],
            source=[record.source or "" for record in records],
            group=self.groups.group[rows],
            prompt_length=measures.characters.astype(np.float64),
            task=[record.task or "" for record in records],
            is_full=is_full,
            p_uncalibrated=p_uncalibrated,
            is_out_of_distribution=is_out_of_distribution,
            language=measures.language,
            tokens=measures.tokens.astype(np.float64),
            turns=np.array([record.prompt.turns for record in records], dtype=np.int64),
            confidence=np.array([self.rows[row].label.confidence for row in rows], dtype=np.float64),
            structural=structural,
        )


@dataclass(frozen=True)
class Loaded:
    """What was read, what was labelled, and the dataset made of it.

    Attributes:
        read: the rows of the logs.
        labelled: what the labellers said of them.
        dataset: of the rows that can teach.
        table: their features, where these were read and not the prompts.
        answers: the weak model's, where features of them were read.
    """

    read: ReadResult
    labelled: Labelled
    dataset: Dataset
    table: FeatureTable | None = None
    answers: Answers | None = None


def load_dataset(
    paths: Sequence[LogFile],
    pair: Pair,
    reading: Reading | None,
    margin: float,
    reporter: Reporter,
    harness_rules: int = 0,
) -> Loaded:
    """Read, join, label (or look up the labels) and group the rows of some logs.

    Args:
        paths: logs, in the order of their rows.
        pair: whose answers are compared.
        reading: how the logs are to be read.
        margin: by how much the weak score may be lower and still match.
        reporter: what is told of the progress.
        harness_rules: version of the rules by which texts lose their harness text before they are grouped.

    Raises:
        DataRefused: a file can't be read, most rows are bad, no row has a label, stored labels are those of other
            rows, or a router chose which rows have both answers and nothing says with what probability.
    """
    refuse_features(paths)
    refuse_digests(paths)
    with reporter.stage("Reading logs") as advance:
        reading = reading or Reading()
        read = read_records(paths, pair, reading, on_progress=_steps(advance)).joined(reading.join)
    if read.n_rows == 0:
        raise DataRefused(f"{', '.join(map(str, paths))}: no rows")
    read.refuse_if_mostly_bad()
    for notice in read.notices:
        reporter.say(notice)
    _refuse_other_models(read.records, pair)
    labelled = _labelled(read.records, paths, pair, reading, margin)
    rows = usable_rows(labelled, reading, reporter)
    return Loaded(read, labelled, group_rows(rows, reporter, harness_rules))


def _refuse_other_models(records: Sequence[Record], pair: Pair) -> None:
    """Refuse logs with answers of which none is the pair's, and say whose they are."""
    found = Counter(name for record in records for name in record.other_models)
    if found and not any(record.strong or record.weak for record in records):
        names = ", ".join(f"{name} ({count})" for name, count in found.most_common(10))
        raise DataRefused(
            f"no answer of {pair.strong} or {pair.weak}; found {names}: name the pair with --strong and --weak"
        )


def usable_rows(labelled: Labelled, reading: Reading, reporter: Reporter) -> list[LabelledRecord]:
    """Return the labelled rows that can teach, in their order.

    Raises:
        DataRefused: there are none, or a router chose them and nothing says with what probability.
    """
    if not labelled.labelled:
        why = ", ".join(f"{reason} {count}" for reason, count in labelled.unlabelled.items())
        raise DataRefused(
            f"no row has a label ({why}); a label needs both models' answers and scores, a preference, a reference "
            "or two answers that agree"
        )
    rows = _without_one_sided(labelled, reporter)
    if not reading.allows_routed:
        _refuse_routed(rows)
    return rows


def _labelled(records: list[Record], paths: Sequence[LogFile], pair: Pair, reading: Reading, margin: float) -> Labelled:
    if reading.labels is None:
        return label_records(records, margin=margin)
    return stored_labels(reading.labels, records, origin_of(paths, pair, margin))


def _refuse_routed(rows: Sequence[LabelledRecord]) -> None:
    """Refuse pairs that a router chose without saying how likely each was to be chosen.

    A router, or a shadow call that depends on its choice, makes easy requests more frequent among the pairs than
    they are among all; only the probability of having both answers can put that right.
    """
    routed = [row.record for row in rows if row.record.route_propensity is not None]
    if unknown := [record for record in routed if record.pair_propensity is None]:
        first = unknown[0]
        raise DataRefused(
            f"{len(unknown)} labelled rows come from routed traffic (route_propensity) and do not say with what "
            f"probability both answers were obtained (pair_propensity); the first is {first.file}, line {first.line}. "
            "A fit would learn from the requests that the router chose; log pair_propensity, leave these rows out, "
            "or let each count once with --allow-routed"
        )


def _without_one_sided(labelled: Labelled, reporter: Reporter) -> list[LabelledRecord]:
    """Leave out labels by agreement where rows whose answers differ have none.

    Agreement only ever says match. Where its counterpart, the rows that disagree, is undecided, keeping
    it would select rows by their outcome and lift every p_match.
    """
    n_agreement = sum(row.label.family == agreement.NAME for row in labelled.labelled)
    n_undecided = labelled.unlabelled.get(Unlabelled.UNDECIDED, 0)
    if n_undecided <= ONE_SIDED_SHARE * n_agreement:
        return labelled.labelled
    kept = [row for row in labelled.labelled if row.label.family != agreement.NAME]
    if n_agreement:
        reporter.say(
            f"{n_agreement} rows labelled by agreement are left out: agreement only ever says match, and {n_undecided} "
            "rows whose answers differ have no label; give scores, references or preferences"
        )
    if not kept:
        raise DataRefused(
            f"only rows whose answers agree have a label, and {n_undecided} whose answers differ have none; "
            "such labels are all match; give scores, references or preferences"
        )
    return kept


def digest_files(paths: Sequence[LogFile]) -> str:
    """Return the SHA-256 (hex) over the files' own digests, in the order given."""
    total = hashlib.sha256()
    for path in paths:
        total.update(bytes.fromhex(digest_file(path)))
    return total.hexdigest()


def group_rows(rows: list[LabelledRecord], reporter: Reporter, harness_rules: int) -> Dataset:
    """Return the dataset of labelled rows, whatever log or store they come from; groups go by the stripped texts."""
    with reporter.stage("Grouping near-duplicates"):
        groups = group_records([row.record for row in rows], harness_rules)
    return dataset_of(rows, groups, reporter)


def dataset_of(
    rows: list[LabelledRecord], groups: Groups, reporter: Reporter, measures: PromptMeasures | None = None
) -> Dataset:
    """Return labelled rows and their groups as arrays, and say what their weights make of them."""
    match = np.array([row.label.match for row in rows], dtype=np.int64)
    strong = [row.label.strong_score for row in rows]
    weak = [row.label.weak_score for row in rows]
    propensity = [row.record.pair_propensity or 1.0 for row in rows]
    dataset = Dataset(
        rows=rows,
        groups=groups,
        match=match,
        strong_score=np.array([1.0 if score is None else score for score in strong]),
        weak_score=np.array(
            [float(label) if score is None else score for score, label in zip(weak, match, strict=True)]
        ),
        has_scores=all(score is not None for score in (*strong, *weak)),
        weight=1.0 / np.clip(np.array(propensity), PROPENSITY_CLIP, 1.0),
        measures=measures,
    )
    if dataset.effective_rows < len(rows):
        reporter.say(f"Weights 1 / pair_propensity: {len(rows)} rows count as {dataset.effective_rows:.0f} equal ones")
    _say_what_was_split(groups, reporter)
    return dataset


def _say_what_was_split(groups: Groups, reporter: Reporter) -> None:
    """Name the one case in which rows of a session or group may stand on both sides of a split."""
    if groups.split_sizes:
        reporter.say(
            f"Warning: {len(groups.split_sizes)} groups hold more than {LARGEST_GROUP_SHARE:.0%} of the rows each (the "
            f"largest {groups.split_sizes[0]}) and are taken apart into equal texts: rows that their session, group id "
            "or near-duplicates tie may stand on both sides of a split, and figures flatter. Give shorter sessions "
            "or more of them"
        )


def _steps(advance: Advance) -> Callable[[int], None]:
    """Turn a running total into steps."""
    done = 0

    def on_total(total: int) -> None:
        nonlocal done
        advance(total - done)
        done = total

    return on_total
