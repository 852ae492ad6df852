"""Labels: whether the weak model would have done, for every record that can tell.

Comes in: records. Goes out: `Labelled`: records with a label, and the others counted by why they have none.
The first labeller that applies decides: scores, preference, reference, agreement (the same answer, then, where asked
for, a similar one). `training.judge` labels what is left undecided; `stored` reads labels made before. Each label names
who spoke.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from turnout.training.encoders.encoders import EncoderModel
from turnout.training.labels.agreement import label_by_agreement
from turnout.training.labels.graders.code import RunLimits
from turnout.training.labels.logged import label_by_scores
from turnout.training.labels.preference import label_by_preference
from turnout.training.labels.reference import ReferenceLabeller
from turnout.training.labels.usable import label_by_use
from turnout.training.logs.records import Label, LabelledRecord, Record, Response

__all__ = ["Decision", "Labelled", "Labeller", "Unlabelled", "label_records"]

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


Decision = Label | Unlabelled
"""What became of a record: its label, or why it has none."""


@dataclass(frozen=True)
class Labelled:
    """What the labellers said of each record.

    Attributes:
        labelled: the records with a label, in their order.
        unlabelled: how many of the others there are by why, the most frequent first.
        decisions: one for each record, in their order.
    """

    labelled: list[LabelledRecord]
    unlabelled: dict[Unlabelled, int]
    decisions: list[Decision]

    @classmethod
    def of(cls, records: Sequence[Record], decisions: Sequence[Decision]) -> Labelled:
        """Sort records by what became of each; both in the same order."""
        made = list(zip(records, decisions, strict=True))
        unlabelled = Counter(decision for decision in decisions if isinstance(decision, Unlabelled))
        labelled = [LabelledRecord(record, decision) for record, decision in made if isinstance(decision, Label)]
        return cls(labelled, dict(unlabelled.most_common()), list(decisions))

    @property
    def by_labeller(self) -> dict[str, int]:
        """Labels by who gave them, the most frequent first."""
        return dict(Counter(row.label.labeller for row in self.labelled).most_common())


def label_records(
    records: Sequence[Record],
    *,
    margin: float = 0.0,
    code_limits: RunLimits | None = None,
    similarity_encoder: EncoderModel | None = None,
) -> Labelled:
    """Label every record that holds what a labeller needs.

    Args:
        records: in any order, which is kept.
        margin: by how much the weak score may fall below the strong one and still match; 0 for right/wrong scores.
            Long references are graded, by token F1, only where it is above 0.
        code_limits: within what the answers' code may be run against tests given as reference; None runs none.
        similarity_encoder: embeds the answers of undecided rows, to label those that say nearly the same where a
            threshold can be fitted on the other rows; None asks no encoder.
    """
    labellers: tuple[Labeller, ...] = (
        partial(label_by_scores, margin=margin),
        label_by_preference,
        ReferenceLabeller(margin, code_limits),
        label_by_use,
        label_by_agreement,
    )
    decisions = [_decide(record, labellers) for record in records]
    if similarity_encoder is not None:
        decisions = _with_similarity(records, decisions, similarity_encoder)
    return Labelled.of(records, decisions)


def _decide(record: Record, labellers: Sequence[Labeller]) -> Decision:
    if not record.prompt.is_empty:
        for labeller in labellers:
            if (label := labeller(record)) is not None:
                return label
    return _why_not(record)


def _with_similarity(records: Sequence[Record], decisions: list[Decision], encoder: EncoderModel) -> list[Decision]:
    from turnout.training.labels.similarity import label_by_similarity  # noqa: PLC0415  # SciPy is for those who ask for it

    undecided = [row for row, made in enumerate(decisions) if made is Unlabelled.UNDECIDED]
    known = [LabelledRecord(r, made) for r, made in zip(records, decisions, strict=True) if isinstance(made, Label)]
    found = label_by_similarity([records[row] for row in undecided], known, encoder)
    similar = {row: label for row, label in zip(undecided, found, strict=True) if label is not None}
    return [similar.get(row, made) for row, made in enumerate(decisions)]


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
