"""Labels: whether the weak model would have done, for every record that can tell.

Comes in: records. Goes out: `Labelled`: records with a label, and the others counted by why they have none.
The first labeller that applies decides: scores, preference, reference, agreement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from training.labels.agreement import label_by_agreement
from training.labels.preference import label_by_preference
from training.labels.reference import label_by_reference
from training.labels.scores import label_by_scores
from training.records import Label, LabelledRecord, Record, Response

__all__ = ["Labelled", "Labeller", "Unlabelled", "label_records"]

Labeller = Callable[[Record], Label | None]


class Unlabelled(StrEnum):
    """Why a record has no label."""

    NO_ANSWER = "no_answer"
    ONLY_STRONG = "only_strong"
    ONLY_WEAK = "only_weak"
    UNDECIDED = "undecided"
    """Both answers are there and no labeller could tell."""
    NO_TEXT = "no_text"
    """Images or tools without text: served by rule, never by the model."""


@dataclass(frozen=True)
class Labelled:
    """The records with a label, in their order, and how many of the others there are by why."""

    labelled: list[LabelledRecord]
    unlabelled: dict[Unlabelled, int]

    @property
    def by_labeller(self) -> dict[str, int]:
        """Labels by who gave them, the most frequent first."""
        return dict(Counter(row.label.labeller for row in self.labelled).most_common())


def label_records(records: Sequence[Record], *, margin: float = 0.0) -> Labelled:
    """Label every record that holds what a labeller needs.

    Args:
        records: in any order, which is kept.
        margin: by how much the weak score may fall below the strong one and still match; 0 for right/wrong scores.
    """
    labellers: tuple[Labeller, ...] = (
        partial(label_by_scores, margin=margin),
        label_by_preference,
        label_by_reference,
        label_by_agreement,
    )
    labelled: list[LabelledRecord] = []
    unlabelled: Counter[Unlabelled] = Counter()
    for record in records:
        applicable = () if record.prompt.is_empty else labellers
        label = next((label for labeller in applicable if (label := labeller(record)) is not None), None)
        if label is None:
            unlabelled[_why_not(record)] += 1
        else:
            labelled.append(LabelledRecord(record, label))
    return Labelled(labelled, dict(unlabelled.most_common()))


def _why_not(record: Record) -> Unlabelled:
    if record.prompt.is_empty:
        return Unlabelled.NO_TEXT
    match (_answered(record.strong), _answered(record.weak)):
        case (True, True):
            return Unlabelled.UNDECIDED
        case (True, False):
            return Unlabelled.ONLY_STRONG
        case (False, True):
            return Unlabelled.ONLY_WEAK
        case _:
            return Unlabelled.NO_ANSWER


def _answered(response: Response | None) -> bool:
    return response is not None and (bool(response.content) or response.score is not None)
