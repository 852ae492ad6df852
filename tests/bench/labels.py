"""Accuracy of the labellers: answers graded from text and reference alone, beside the source's own scores.

    python -m tests.bench.labels LOGS... [--json FILE]

LOGS are Parquet tables with both answers, both scores, a reference and how it was scored (`scorer`). Each row stands in
one half, `developed` or `held out`, by a hash of its group: the labellers were written looking at disagreements of the
first half only. Prints Markdown tables of figures, never texts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq

from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.model_names import is_model
from turnout.training.labels.agreement import agreement
from turnout.training.labels.graders import GraderQuestion
from turnout.training.labels.reference import ReferenceLabeller, grade_answer
from turnout.training.logs.read import read_records
from turnout.training.logs.readers.turnout import MODE_SUFFIX, PAIR_COLUMNS
from turnout.training.logs.records import Record

HALVES = DEVELOPED, HELD_OUT = "developed", "held out"
SAME_SCORE = 0.005
"""Graded scores this near count as the same: sources round."""
NOBODY = "nobody"


@dataclass(frozen=True)
class Compared:
    """One row: what the labellers say, and what the source says.

    Attributes:
        scorer: how the source scored.
        half: which half its group is in.
        labeller: the reference labeller that decided.
        agreeing: the member of the agreement family that would have spoken.
        said: score of the strong and the weak answer by the reference; None where it can't be read.
        match: the label that follows; None where there is none.
    """

    record: Record
    scorer: str
    half: str
    labeller: str
    agreeing: str
    said: tuple[float | None, float | None]
    match: int | None

    @property
    def true_match(self) -> int:
        """The label by the source's scores."""
        return int(self.record.weak.score >= self.record.strong.score)

    @property
    def same_scores(self) -> int:
        """How many of the two answers were given the source's score."""
        true = self.record.strong.score, self.record.weak.score
        return sum(
            said is not None and abs(said - score) < SAME_SCORE for said, score in zip(self.said, true, strict=True)
        )


@dataclass
class Tally:
    """Counts of answers and rows of one kind."""

    answers: int = 0
    graded: int = 0
    same_score: int = 0
    rows: int = 0
    labelled: int = 0
    same_match: int = 0

    def add(self, row: Compared) -> None:
        self.answers += 2
        self.graded += sum(said is not None for said in row.said)
        self.same_score += row.same_scores
        self.rows += 1
        self.labelled += row.match is not None
        self.same_match += row.match == row.true_match

    @property
    def confidence(self) -> float:
        """How often the label is right, as (hits + 1) / (rows + 2)."""
        return (self.same_match + 1) / (self.labelled + 2)


def compare(path: Path) -> Iterator[Compared]:
    """Yield the rows of a Parquet table, of whichever pair, that have both answers with text and score."""
    scorers = pq.read_table(path, columns=["scorer"])["scorer"].to_pylist()
    read = [record for pair in pairs_of(path) for record in read_records([path], pair).records]
    for record in sorted(read, key=lambda record: record.line):
        strong, weak = record.strong, record.weak
        if strong and weak and strong.content and weak.content and None not in (strong.score, weak.score):
            yield compared(record, scorers[record.line - 1])


def pairs_of(path: Path) -> list[Pair]:
    """Return the pairs that a table's columns name, snapshots of the default pair as that pair."""
    if not set(PAIR_COLUMNS) <= set(pq.read_schema(path).names):
        return [Pair()]
    named = {*zip(*pq.read_table(path, columns=[*PAIR_COLUMNS]).to_pydict().values(), strict=True)}
    default = Pair()
    others = {pair for pair in named if not is_model(pair[0].removesuffix(MODE_SUFFIX), default.strong)}
    return [*([default] if others != named else []), *(Pair(strong=one, weak=two) for one, two in sorted(others))]


def compared(record: Record, scorer: str) -> Compared:
    """Label one row by its reference and by agreement, scores unseen."""
    label = LABELLER(record)
    agreed = agreement(record.strong.content, record.weak.content, record.prompt.text)
    return Compared(
        record=record,
        scorer=scorer,
        half=half_of(record),
        labeller=label.labeller if label else NOBODY,
        agreeing=f"agreement:{agreed}" if agreed else NOBODY,
        said=(label.strong_score, label.weak_score) if label else _grades(record),
        match=label.match if label else None,
    )


def half_of(record: Record) -> str:
    """Return the half that the row's group belongs to."""
    digest = hashlib.sha256((record.group_id or record.id).encode()).digest()
    return HALVES[digest[0] & 1]


def tallies(rows: Sequence[Compared], key: Callable[[Compared], str]) -> dict[str, dict[str, Tally]]:
    """Return the tallies by key and half, the largest first."""
    found: dict[str, dict[str, Tally]] = defaultdict(lambda: {half: Tally() for half in HALVES})
    for row in rows:
        found[key(row)][row.half].add(row)
    return dict(sorted(found.items(), key=lambda item: -sum(tally.rows for tally in item[1].values())))


def agreed_rows(rows: Sequence[Compared]) -> dict[str, dict[str, Tally]]:
    """Return, for each member of the agreement family, how often the rows it calls a match are one."""
    found: dict[str, dict[str, Tally]] = defaultdict(lambda: {half: Tally() for half in HALVES})
    for row in rows:
        tally = found[row.agreeing][row.half]
        tally.rows += 1
        tally.labelled += row.agreeing != NOBODY
        tally.same_match += row.agreeing != NOBODY and row.true_match
    return dict(found)


LABELLER = ReferenceLabeller()
KEYS: dict[str, Callable[[Compared], str]] = {
    "task": lambda row: row.record.task or "",
    "source": lambda row: row.record.source or "",
    "scorer": lambda row: row.scorer.partition(" (")[0].partition(", same")[0],
    "labeller": lambda row: row.labeller,
    "whose score": lambda row: "a model judged" if "judge" in row.scorer else "compared with a gold answer",
}


def main() -> None:
    """Print one table for each way to group the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("logs", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [row for log in options.logs for row in compare(log)]
    with_reference = [row for row in rows if row.record.reference is not None]
    found = {name: tallies(with_reference, key) for name, key in KEYS.items()}
    for name, groups in found.items():
        print_table(name, groups)
    found["agreement"] = agreed_rows(rows)
    print_table("agreement", found["agreement"])
    if options.json:
        plain = {
            name: {group: {half: asdict(tally) for half, tally in halves.items()} for group, halves in groups.items()}
            for name, groups in found.items()
        }
        options.json.write_text(json.dumps(plain, indent=1) + "\n")


def print_table(name: str, groups: dict[str, dict[str, Tally]]) -> None:
    """Print one table; where two figures stand in a cell, they are of the developed and the held-out half."""
    columns = (
        name,
        "rows",
        "answers read, %",
        "read right, %",
        "labelled, %",
        "label right, %",
        "confidence, held out",
    )
    print(f"\n| {' | '.join(columns)} |\n| --- |{' ---: |' * (len(columns) - 1)}")
    for group, halves in groups.items():
        cells = [
            group,
            " / ".join(str(tally.rows) for tally in halves.values()),
            _percents((tally.graded, tally.answers) for tally in halves.values()),
            _percents((tally.same_score, tally.graded) for tally in halves.values()),
            _percents((tally.labelled, tally.rows) for tally in halves.values()),
            _percents((tally.same_match, tally.labelled) for tally in halves.values()),
            f"{halves[HELD_OUT].confidence:.4f}" if halves[HELD_OUT].labelled else "",
        ]
        print(f"| {' | '.join(cells)} |")


def _percents(shares: Iterator[tuple[int, int]]) -> str:
    cells = [f"{100 * part / whole:.2f}" if whole else "" for part, whole in shares]
    return " / ".join(cells) if any(cells) else ""


def _grades(record: Record) -> tuple[float | None, float | None]:
    if record.reference is None:
        return None, None
    graders = LABELLER.graders_for(GraderQuestion(record.prompt.text, record.reference))
    strong, weak = (grade_answer(answer.content, graders) for answer in (record.strong, record.weak))
    return strong.score if strong else None, weak.score if weak else None


if __name__ == "__main__":
    main()
