"""Accuracy of the reference labellers: answers graded from text and reference alone, beside the source's own score.

    python -m tests.bench.labels LOGS... [--strong NAME --weak NAME] [--json FILE]

Rows need a reference, both answers and both scores. Each row stands in the half `developed` or `held out` by a hash of
its group: the labellers were written looking at disagreements of the first half only. Prints figures, never texts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from rich.table import Table

from serving.bundle import Pair
from serving.tables import console
from training.labels.graders import Question
from training.labels.reference import ReferenceLabeller, grade_answer
from training.logs import read_records
from training.records import Record

DEVELOPED, HELD_OUT = "developed", "held out"
SAME_SCORE = 0.005
"""Graded scores this near count as the same: sources round."""


@dataclass
class Tally:
    """Answers and rows of one kind, and how many the labellers read and got right."""

    answers: int = 0
    graded: int = 0
    same_score: int = 0
    rows: int = 0
    labelled: int = 0
    same_match: int = 0

    def add(self, row: Compared) -> None:
        self.answers += 2
        self.graded += sum(said is not None for said in row.said)
        self.same_score += sum(row.is_same)
        self.rows += 1
        self.labelled += row.match is not None
        self.same_match += row.match == row.true_match

    @property
    def figures(self) -> dict[str, float]:
        """Shares: of the answers graded, right among those, right among all; the same for rows and their label."""
        return {
            "answers": self.answers,
            "graded": self.graded / self.answers,
            "right of graded": self.same_score / self.graded if self.graded else 0.0,
            "right of all": self.same_score / self.answers,
            "rows": self.rows,
            "labelled": self.labelled / self.rows,
            "match right of labelled": self.same_match / self.labelled if self.labelled else 0.0,
            "match right of all": self.same_match / self.rows,
        }


@dataclass(frozen=True)
class Compared:
    """One row: what the labeller says of its two answers, and what the source says."""

    record: Record
    scorer: str
    half: str
    labeller: str
    said: tuple[float | None, float | None]
    match: int | None

    @property
    def true(self) -> tuple[float, float]:
        """The source's scores."""
        return self.record.strong.score, self.record.weak.score

    @property
    def true_match(self) -> int:
        return int(self.true[1] >= self.true[0])

    @property
    def is_same(self) -> list[bool]:
        """Whether each answer was given the source's score."""
        return [
            said is not None and abs(said - true) < SAME_SCORE for said, true in zip(self.said, self.true, strict=True)
        ]


def compare(path: Path, pair: Pair) -> Iterator[Compared]:
    """Grade the rows of a Parquet table that carry all that it takes."""
    scorers = pq.read_table(path, columns=["scorer"])["scorer"].to_pylist()
    labeller = ReferenceLabeller()
    for record in read_records([path], pair).records:
        answers = [answer for answer in (record.strong, record.weak) if answer and answer.content]
        if record.reference is None or len(answers) < 2 or any(answer.score is None for answer in answers):
            continue
        graders = labeller.graders_for(Question(record.prompt.text, record.reference))
        found = [grade_answer(answer.content, graders) for answer in answers]
        said = tuple(graded.score if graded else None for graded in found)
        label = labeller(record)
        name = label.labeller if label else "none"
        yield Compared(record, scorers[record.line - 1], half_of(record), name, said, label.match if label else None)


def half_of(record: Record) -> str:
    """Return the half that the row's group belongs to."""
    digest = hashlib.sha256((record.group_id or record.id).encode()).digest()
    return HELD_OUT if digest[0] & 1 else DEVELOPED


def is_gold(row: Compared) -> bool:
    """Whether the source compared with a gold answer itself: not a model that judged, nor tests that ran."""
    return "judge" not in row.scorer


KEYS: dict[str, Callable[[Compared], str]] = {
    "task": lambda row: row.record.task or "",
    "source": lambda row: row.record.source or "",
    "scorer": lambda row: row.scorer.partition("(")[0].strip()[:60],
    "labeller": lambda row: row.labeller,
    "all with a gold answer": lambda row: "yes" if is_gold(row) else "no: judged by a model",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("logs", nargs="+", type=Path)
    parser.add_argument("--strong", default=Pair().strong)
    parser.add_argument("--weak", default=Pair().weak)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [row for log in options.logs for row in compare(log, Pair(strong=options.strong, weak=options.weak))]
    found = {name: _tallies(rows, key) for name, key in KEYS.items()}
    for name, tallies in found.items():
        _print(name, tallies)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def _tallies(rows: list[Compared], key: Callable[[Compared], str]) -> list[dict[str, object]]:
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    for row in rows:
        for half in (row.half, "both"):
            tallies[key(row), half].add(row)
    order = Counter(key(row) for row in rows)
    ranked = sorted(tallies.items(), key=lambda item: (-order[item[0][0]], item[0]))
    return [{"name": name, "half": half, **tally.figures} for (name, half), tally in ranked]


def _print(name: str, tallies: list[dict[str, object]]) -> None:
    table = Table(title=f"By {name}", title_justify="left")
    for column in tallies[0]:
        table.add_column(column, justify="left" if column in {"name", "half"} else "right")
    for tally in tallies:
        table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in tally.values()))
    console().print(table)


if __name__ == "__main__":
    main()
