"""Work: what a worker does with one unit: reads, puts together, labels and embeds its rows.

Comes in: a unit. Goes out: a `Piece`: rows that are finished, and rows that wait for others. The functions for one
row are those that the commands in memory use (`training.pipeline.desk`); nothing here knows which engine calls it.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from turnout.serving.bundles.registry import find_encoder
from turnout.serving.errors import TurnoutError
from turnout.training.encoders.encoders import load_encoder
from turnout.training.logs.collecting import without_cycle_collection
from turnout.training.logs.entries import Seen, entries_of
from turnout.training.logs.join import join_answers
from turnout.training.logs.lines import Block, TextReader
from turnout.training.logs.parts import FileParts, Held, Place, match_scores
from turnout.training.logs.readers import Entry, form_named
from turnout.training.logs.records import Record
from turnout.training.logs.tables import FileKind, RawRow, csv_rows, document_rows, jsonl_rows, parquet_rows
from turnout.training.pipeline.desk import Desk, Encoders
from turnout.training.pipeline.job import Job
from turnout.training.pipeline.messages import (
    Bucket,
    HeldRow,
    LogToSurvey,
    Piece,
    Stage,
    Stretch,
    decode_unit,
    encode,
    log_file,
)
from turnout.training.pipeline.survey import survey

BLOCK_BYTES, EMBEDDED_BLOCK_BYTES = 4 << 20, 512 << 10
"""How much text a stretch holds; with vectors, of 1.8 kB a row, its piece would be many times that of labels."""


class Worker:
    """Works on units one after the other."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._texts: list[TextReader] = []
        self._lock = threading.Lock()  # threads of this machine share one worker

    def __call__(self, message: bytes) -> bytes:
        """Return the piece of a unit; what the operator did wrong is said in it, what we did is raised."""
        unit = decode_unit(message)
        try:
            with without_cycle_collection():
                return encode(self._piece(unit))
        except TurnoutError as error:
            return encode(Piece(unit.number, refused=str(error)))

    def _piece(self, unit: LogToSurvey | Stretch | Bucket) -> Piece:
        if isinstance(unit, LogToSurvey):
            usual = EMBEDDED_BLOCK_BYTES if self._job.encoder else BLOCK_BYTES
            found = survey(log_file(unit.path), self._job.reading, self._job.block_bytes or usual)
            return Piece(unit.number, survey=found)
        with self._lock:
            return self._worked_on(unit)

    def _worked_on(self, unit: Stretch | Bucket) -> Piece:
        desk = Desk(self._job, self._encoders)
        if isinstance(unit, Bucket):
            _put_together(unit, desk, self._job)
            return desk.piece(unit.number)
        seen = Seen()
        entries = entries_of(
            self._rows(unit), form_named(unit.form), self._job.pair, self._job.reading.columns, seen, unit.path
        )
        for line, index, entry in entries:
            desk.take(Place(unit.file, line, index), entry)
        piece = desk.piece(unit.number)
        piece.kinds, piece.n_sampled = seen.kinds, seen.n_sampled
        piece.columns, piece.other_pairs, piece.n_others = list(seen.columns), seen.other_pairs, seen.n_others
        return piece

    def _rows(self, unit: Stretch) -> Iterator[RawRow]:
        path = log_file(unit.path)
        match unit.kind:
            case FileKind.LINES:
                return jsonl_rows(self._reader(unit.path, unit.block), unit.block)
            case FileKind.PARQUET:
                return parquet_rows(path, unit.block)
            case FileKind.CSV:
                return csv_rows(path)
            case FileKind.DOCUMENT:
                return document_rows(path)

    def _reader(self, path: str, block: Block) -> TextReader:
        """Return a reader that stands before the block: a compressed file is then read once a worker, not once a block.

        Two are kept, because threads may swap neighbouring blocks.
        """
        before = [text for text in self._texts if str(text.path) == path and text.position <= block.start]
        text = max(before, key=lambda one: one.position) if before else TextReader(log_file(path))
        self._texts = [text, *(other for other in self._texts if other is not text)][:2]
        return text

    @cached_property
    def _encoders(self) -> Encoders:
        job = self._job
        return Encoders(
            load_encoder(find_encoder(job.similarity)) if job.similarity else None,
            load_encoder(find_encoder(job.encoder)) if job.encoder else None,
        )


def _put_together(unit: Bucket, desk: Desk, job: Job) -> None:
    held = _held_rows(unit)
    match unit.stage:
        case Stage.PARTS:
            parts = FileParts()
            for place, row in held:
                parts.add(place, row)  # type: ignore[arg-type]
            for place, entry in parts.joined():
                desk.settle(place, desk.decoded(place, entry), Stage.PARTS)
        case Stage.SCORES:
            _score(held, unit.score_name, desk)
        case Stage.JOIN:
            records = sorted((place, row) for place, row in held if isinstance(row, Record))
            by_place = {record.place: place for place, record in records}
            joined, _ = join_answers([record for _, record in records], job.reading.join)
            for record in joined:
                desk.settle(by_place[record.place], record, Stage.JOIN)


def _score(held: Sequence[HeldRow], name: str, desk: Desk) -> None:
    records = [(place, row) for place, row in held if isinstance(row, Record)]
    scores = [Held(place, row) for place, row in held if isinstance(row, Entry)]
    found, unused = match_scores(scores, {record.id for _, record in records}, name)
    for place, record in records:
        score = found.get(record.id)
        desk.settle(place, record if score is None else record.with_score(score), Stage.SCORES)
    for place, entry in unused:
        desk.settle(place, desk.decoded(place, entry), Stage.SCORES)


def _held_rows(unit: Bucket) -> list[HeldRow]:
    """Return the rows of a bucket in the order of their places: pieces come back in any order."""
    content = unit.content or Path(unit.path).read_bytes()
    rows, start = list[HeldRow](), 0
    while start < len(content):
        end = start + 8 + int.from_bytes(content[start : start + 8], "big")
        rows += pickle.loads(content[start + 8 : end])  # noqa: S301  # a worker of this run wrote it
        start = end
    return sorted(rows, key=lambda row: row[0])
