"""Ledger: what became of every row of the logs, as a table of rows and in figures.

Comes in: rows read, and their labels. Goes out: the table that `turnout label` writes, and `Ledger`, where
rows = labelled + abstained + quarantined + merged.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pyarrow as pa
from rich.table import Table

from turnout.training.labels import Decision
from turnout.training.logs.records import Label, Record

LABEL_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("match", pa.int8()),
        ("labeller", pa.string()),
        ("label_confidence", pa.float64()),
        ("strong_score", pa.float64()),
        ("weak_score", pa.float64()),
        ("abstained", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("index", pa.int64()),
    ]
)


class Ledger(msgspec.Struct, frozen=True):
    """Rows in, and where each went.

    Attributes:
        rows: rows read, blank lines left out.
        labelled: by who labelled them, the most frequent first.
        abstained: rows without a label by why.
        quarantined: rows that could not be read, by why.
        merged: rows that went into another one: the second answer to a request, or the half of a batch.
        match_rate_by_task: share of match = 1 among the labelled rows of each task; "" where rows name none.
        rows_by_task: how many labelled rows that is of.
        label_noise: expected share of wrong labels: the mean of 1 - confidence; None without labels.
        label_noise_by_labeller: the same for each labeller.
    """

    rows: int
    labelled: dict[str, int]
    abstained: dict[str, int]
    quarantined: dict[str, int]
    merged: int
    match_rate_by_task: dict[str, float]
    rows_by_task: dict[str, int]
    label_noise: float | None
    label_noise_by_labeller: dict[str, float]

    @property
    def is_exact(self) -> bool:
        """Whether every row is accounted for once."""
        counted = sum(sum(part.values()) for part in (self.labelled, self.abstained, self.quarantined))
        return self.rows == counted + self.merged


@dataclass
class RowTally:
    """Counts of what became of rows, from which a ledger is made; the same whatever order they are counted in.

    Attributes:
        labels: labelled rows by task, labeller, match and confidence.
        abstained, quarantined: the others by why.
    """

    labels: Counter[tuple[str, str, int, float]] = field(default_factory=Counter)
    abstained: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)

    def ledger(self, n_rows: int) -> Ledger:
        """Return the ledger of `n_rows` rows read; those that are not counted here were merged."""
        by_task, matches, by_labeller = Counter[str](), Counter[str](), Counter[str]()
        doubts: dict[str, list[float]] = defaultdict(list)
        for (task, labeller, match, confidence), count in sorted(self.labels.items()):
            by_task[task] += count
            matches[task] += count * match
            by_labeller[labeller] += count
            doubts[labeller].append(count * (1 - confidence))
        n_labelled = by_labeller.total()
        return Ledger(
            rows=n_rows,
            labelled=_most_frequent_first(by_labeller),
            abstained=_most_frequent_first(self.abstained),
            quarantined=_most_frequent_first(self.quarantined),
            merged=n_rows - n_labelled - self.abstained.total() - self.quarantined.total(),
            match_rate_by_task={task: matches[task] / count for task, count in sorted(by_task.items())},
            rows_by_task=dict(sorted(by_task.items())),
            label_noise=sum(map(sum, doubts.values())) / n_labelled if n_labelled else None,
            label_noise_by_labeller={name: sum(found) / by_labeller[name] for name, found in sorted(doubts.items())},
        )


def _most_frequent_first(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def labels_table(records: Sequence[Record], decisions: Sequence[Decision]) -> pa.Table:
    """Return one row a record, in their order: its label, or why it has none."""
    labels = [made if isinstance(made, Label) else None for made in decisions]
    return pa.table(
        {
            "id": [record.id for record in records],
            "match": [None if given is None else given.match for given in labels],
            "labeller": [None if given is None else given.labeller for given in labels],
            "label_confidence": [None if given is None else given.confidence for given in labels],
            "strong_score": [None if given is None else given.strong_score for given in labels],
            "weak_score": [None if given is None else given.weak_score for given in labels],
            "abstained": [None if isinstance(made, Label) else str(made) for made in decisions],
            "file": [record.file for record in records],
            "line": [record.line for record in records],
            "index": [record.index for record in records],
        },
        schema=LABEL_SCHEMA,
    )


def ledger_table(ledger: Ledger) -> Table:
    """Return the ledger for people: counts, match rates with their rows, and the estimated noise."""
    table = Table("what", "rows", "share", title=f"{ledger.rows} rows in, {ledger.merged} merged", title_justify="left")
    for part in ("labelled", "abstained", "quarantined"):
        counts: dict[str, int] = getattr(ledger, part)
        for name, count in counts.items():
            table.add_row(f"{part}: {name}", str(count), f"{count / ledger.rows:.3f}")
    table.add_section()
    for task, rate in ledger.match_rate_by_task.items():
        table.add_row(f"match rate: {task or 'no task'}", str(ledger.rows_by_task[task]), f"{rate:.3f}")
    if ledger.label_noise is not None:
        table.add_section()
        table.add_row("estimated label noise", str(sum(ledger.labelled.values())), f"{ledger.label_noise:.4f}")
    return table
