"""Logs of every kind for the tests of the pipeline, and what the commands in memory make of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.gateway_builders import batch_input, batch_output, langfuse_score, observation
from tests.log_builders import as_lines, gateway_row, write_bytes
from turnout.serving.bundles.manifest import Pair
from turnout.training.errors import DataRefused
from turnout.training.labels import Labelled, label_records
from turnout.training.labels.ledger import Ledger, RowTally, labels_table
from turnout.training.logs.read import ReadResult, read_records
from turnout.training.logs.reading import Reading
from turnout.training.pipeline.engine import Engine
from turnout.training.pipeline.flow import label_stream
from turnout.training.pipeline.job import Job
from turnout.training.progress import Reporter

ONE_WORKER = Engine(1, shares_disk=True)
STRONG, WEAK = Pair().strong, Pair().weak
DAMAGED = {
    "invalid_json": b'{"request": {"mess',
    "wrong_type": b'{"request": 7}',
    "no_prompt": b'{"id": "x", "prompt": null}',
    "invalid_utf8": b'{"prompt": "\xff"}',
    "out_of_range": b'{"prompt": "a", "strong_score": 7}',
}


def both(number: int, answers: tuple[str, str] = ("42", "41"), **fields: Any) -> bytes:
    responses = {model: {"content": answer} for model, answer in zip((STRONG, WEAK), answers, strict=True)}
    return as_lines([gateway_row(f"How many are {number}?", task="math", responses=responses, **fields)])


def single(number: int, model: str) -> bytes:
    """Return a row with one answer; several share a prompt, and the weak ones say the same for every third."""
    answer = "Dust." if model == STRONG or number % 3 == 0 else "Rain."
    responses = {model: {"content": answer}}
    return as_lines([gateway_row(f"Why {number % 5}?", id=f"{model}{number}", responses=responses)])


def gateway_line(kind: str, number: int) -> bytes:
    """Return one line of our own log."""
    if kind in DAMAGED:
        return DAMAGED[kind] + b"\n"
    if kind in (STRONG, WEAK):
        return single(number, kind)
    return {
        "reference": both(number, id=f"r{number}", reference="42"),
        "agreement": both(number, ("Same.", "same")),  # without an id of its own
        "undecided": both(number, ("one way", "or another"), id=f"u{number}"),
        "again": both(7, id="again", reference="42"),  # the same row, wherever it stands
        "undecided_again": both(8, ("one way", "or another"), id="undecided again"),
        "blank": b"\n",
    }[kind]


GOOD_KINDS = ("reference", "agreement", "undecided", "again", "undecided_again", "blank", STRONG, WEAK)
GATEWAY_KINDS = (*GOOD_KINDS, *GOOD_KINDS, *DAMAGED)


def batch_line(kind: str, number: int) -> bytes:
    model = STRONG if number % 2 else WEAK
    built = batch_input if kind == "input" else batch_output
    text = f"Why {number % 3}?" if kind == "input" else "Dust."
    return as_lines([built(f"c{number % 4}", text, model)])


def langfuse_line(kind: str, number: int) -> bytes:
    if kind == "score":
        return as_lines([langfuse_score(f"o{number % 6}", number % 2)])
    return as_lines([observation(f"Why {number % 2}?", "Dust.", STRONG if number % 3 else WEAK, id=f"o{number % 6}")])


def write_logs(
    folder: Path, gateway: Sequence[str], batch: Sequence[str] = (), scored: Sequence[str] = ()
) -> list[Path]:
    """Write a plain, a compressed and an OpenAI batch log; those without rows are left out."""
    contents = {
        "gateway.jsonl": [gateway_line(kind, number) for number, kind in enumerate(gateway)],
        "batch.jsonl.gz": [batch_line(kind, number) for number, kind in enumerate(batch)],
        "langfuse.jsonl.zst": [langfuse_line(kind, number) for number, kind in enumerate(scored)],
    }
    return [write_bytes(folder / name, b"".join(lines)) for name, lines in contents.items() if lines]


@dataclass(frozen=True)
class Found:
    """What labelling gave: rows of the file, lines of the quarantine, and the ledger; or why it was refused."""

    rows: list[dict[str, Any]]
    quarantine: list[dict[str, Any]]
    ledger: Ledger | None
    refused: str = ""


def found_in_pieces(logs: list[Path], out: Path, reading: Reading, engine: Engine = ONE_WORKER, **job: Any) -> Found:
    for path in (quarantine := Path(f"{out}.quarantine.jsonl"), out):  # labels that are there are not given up for none
        path.unlink(missing_ok=True)
    try:
        whole = Job(Pair(), reading, tuple(map(str, logs)), **job)
        ledger = label_stream(logs, out, whole, engine, Reporter(quiet=True))
    except DataRefused as error:
        return Found([], [], None, str(error))
    bad = quarantine.read_bytes().splitlines() if quarantine.exists() else []
    return Found(pq.read_table(out).to_pylist(), [json.loads(line) for line in bad], ledger)


def found_in_memory(logs: list[Path], reading: Reading, **how: Any) -> Found:
    try:
        read = read_records(logs, Pair(), reading).joined(reading.join)
        read.refuse_if_mostly_bad()
    except DataRefused as error:
        return Found([], [], None, str(error))
    labelled = label_records(read.records, **how)
    bad = [
        {"file": row.file, "line": row.line, **({"index": row.index} if row.index else {}), "reason": row.reason}
        for row in read.quarantine
    ]
    return Found(labels_table(read.records, labelled.decisions).to_pylist(), bad, ledger_of(read, labelled))


def ledger_of(read: ReadResult, found: Labelled) -> Ledger:
    """Count what became of rows that stand in memory."""
    labels = Counter(
        (row.record.task or "", row.label.labeller, row.label.match, row.label.confidence) for row in found.labelled
    )
    abstained = Counter({str(why): count for why, count in found.unlabelled.items()})
    quarantined = Counter({str(why): count for why, count in read.rejected_by_reason.items()})
    return RowTally(labels, abstained, quarantined).ledger(read.n_rows)
