"""Work: what a worker does with one unit: reads, puts together, labels and embeds its rows.

Comes in: a unit. Goes out: a `Piece`: rows that are finished, and rows that wait for others. The functions for one
row are those that the commands in memory use; nothing here knows which engine calls it.
"""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from serving.bundle import Pair
from serving.errors import TurnoutError
from serving.registry import find_encoder
from training.collecting import without_cycle_collection
from training.encoders import EncoderModel, load_encoder
from training.entries import Seen, entries_of
from training.features.keep import Keeping
from training.features.schema import MADE_FIELDS
from training.join import DIGEST_BYTES, has_one_answer, join_answers, join_digest
from training.labels import Decision, Unlabelled, label_records
from training.labels.graders.code import Limits
from training.lines import Block, TextReader
from training.parts import Held, Parts, Place, match_scores
from training.pipeline.judged import is_question, question_rows
from training.pipeline.messages import (
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
from training.pipeline.rows import (
    PLACE,
    VECTOR_FIELDS,
    record_rows,
    rejected_rows,
    row_schema,
    spread,
    vector_columns,
)
from training.pipeline.survey import survey
from training.quarantine import Rejected
from training.readers import Entry, Part, form_named
from training.reading import JoinBy, Reading
from training.records import Label, LabelledRecord, Record
from training.rows import decode_row
from training.tables import Kind, RawRow, csv_rows, document_rows, jsonl_rows, parquet_rows

LABELLED_AT_ONCE = 1000
"""Records held while a unit is worked on."""
BLOCK_BYTES, EMBEDDED_BLOCK_BYTES = 4 << 20, 512 << 10
"""How much text a stretch holds; with vectors, of 1.8 kB a row, its piece would be many times that of labels."""


@dataclass(frozen=True)
class Job:
    """What is to be done with every row; sent to the workers once.

    Attributes:
        paths: of the logs, as records name them, by number.
        margin: by how much the weak score may fall below the strong one and still match.
        code_limits: within what answers' code may be run; None runs none.
        similarity: encoder that compares answers, as the operator names it; empty compares none.
        embedding: encoder that embeds prompts; empty embeds none.
        keeping: how features are made that training needs instead of prompts; None makes none.
        asks_judges: whether judges are asked about rows that nobody else decides.
        judges_known: whether they are asked about some of the others too.
        block_bytes: about how much text a stretch holds; 0 leaves it to us.
        n_buckets: over how many buckets rows that wait are spread.
        has_scores: whether some log holds scores of other rows.
    """

    pair: Pair
    reading: Reading
    paths: tuple[str, ...]
    margin: float = 0.0
    code_limits: Limits | None = None
    similarity: str = ""
    embedding: str = ""
    keeping: Keeping | None = None
    asks_judges: bool = False
    judges_known: bool = False
    block_bytes: int = 0
    n_buckets: int = 1
    has_scores: bool = False

    @property
    def encoder(self) -> str:
        """Encoder of prompts, as the operator names it; empty for none."""
        return self.keeping.encoder if self.keeping else self.embedding

    @property
    def beside(self) -> list[pa.Field]:
        """The columns that a worker writes beside the labels."""
        return MADE_FIELDS if self.keeping else VECTOR_FIELDS if self.embedding else []


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
        desk = _Desk(self._job, self._encoders)
        if isinstance(unit, Bucket):
            _put_together(unit, desk, self._job)
            return desk.piece(unit.number)
        seen = Seen()
        entries = entries_of(self._rows(unit), form_named(unit.form), self._job.pair, self._job.reading.columns, seen)
        for line, index, entry in entries:
            desk.take(Place(unit.file, line, index), entry)
        piece = desk.piece(unit.number)
        piece.columns, piece.other_pairs, piece.n_others = list(seen.columns), seen.other_pairs, seen.n_others
        return piece

    def _rows(self, unit: Stretch) -> Iterator[RawRow]:
        path = log_file(unit.path)
        match unit.kind:
            case Kind.LINES:
                return jsonl_rows(self._reader(unit.path, unit.block), unit.block)
            case Kind.PARQUET:
                return parquet_rows(path, unit.block)
            case Kind.CSV:
                return csv_rows(path)
            case Kind.DOCUMENT:
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
    def _encoders(self) -> _Encoders:
        job = self._job
        return _Encoders(
            load_encoder(find_encoder(job.similarity)) if job.similarity else None,
            load_encoder(find_encoder(job.encoder)) if job.encoder else None,
        )


@dataclass(frozen=True)
class _Encoders:
    similarity: EncoderModel | None
    embedding: EncoderModel | None


@dataclass
class _Desk:
    """Where the rows of one unit are sorted: finished, or waiting for rows of other units."""

    job: Job
    encoders: _Encoders
    n_entries: int = 0
    records: list[tuple[Place, Record]] = field(default_factory=list)
    rejected: list[tuple[Place, Rejected]] = field(default_factory=list)
    tables: list[pa.Table] = field(default_factory=list)
    questions: list[pa.Table] = field(default_factory=list)
    held: dict[Stage, dict[int, list[HeldRow]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    score_names: dict[str, None] = field(default_factory=dict)

    def take(self, place: Place, entry: Entry) -> None:
        """Take a row as it was read."""
        self.n_entries += 1
        if entry.part is Part.WHOLE or entry.reason:
            self.settle(place, self.decoded(place, entry), Stage.PARTS)
        elif entry.part is Part.SCORE:
            self.score_names[entry.fields["name"]] = None
            self._hold(Stage.SCORES, entry.key, place, entry)
        else:
            self._hold(Stage.PARTS, entry.key, place, entry)

    def decoded(self, place: Place, entry: Entry) -> Record | Rejected:
        """Return the record that an entry holds, or why there is none."""
        raw = RawRow(place.line, entry.fields, entry.reason, place.index)
        return decode_row(raw, self.job.paths[place.file], self.job.pair)

    def settle(self, place: Place, row: Record | Rejected, done: Stage) -> None:
        """Finish a row for which `done` is over, or hold it for the stage that it needs next."""
        if isinstance(row, Rejected):
            self.rejected.append((place, row))
        elif self.job.has_scores and done is Stage.PARTS:
            self._hold(Stage.SCORES, row.id, place, row)
        elif self.job.reading.join is not JoinBy.NONE and done is not Stage.JOIN and has_one_answer(row):
            self._hold(Stage.JOIN, join_digest(row, self.job.reading.join), place, row)
        else:
            self.records.append((place, row))
            if len(self.records) >= LABELLED_AT_ONCE:
                self._label()

    def _hold(self, stage: Stage, key: str | bytes, place: Place, row: Record | Entry) -> None:
        digest = key if isinstance(key, bytes) else _digest(key)
        bucket = int.from_bytes(digest[:4], "big") % self.job.n_buckets
        self.held[stage][bucket].append((place, row))

    def _label(self) -> None:
        places, records = [place for place, _ in self.records], [record for _, record in self.records]
        self.records = []
        found = label_records(records, margin=self.job.margin, code_limits=self.job.code_limits)
        similarity = self._similarity(records, found.decisions)
        asked = self._asked(records, found.decisions)
        vectors = self._vectors(records, found.decisions, similarity, asked)
        self.tables.append(record_rows(places, records, found.decisions, similarity, asked, vectors))
        if any(asked):
            self.questions.append(question_rows(places, records, found.decisions, similarity, asked))

    def _asked(self, records: Sequence[Record], decisions: Sequence[Decision]) -> list[bool]:
        """Return of which rows judges may be asked."""
        if not self.job.asks_judges:
            return [False] * len(records)
        made = zip(records, decisions, strict=True)
        return [is_question(record, decision, with_known=self.job.judges_known) for record, decision in made]

    def _similarity(self, records: Sequence[Record], decisions: Sequence[Decision]) -> list[float | None]:
        encoder = self.encoders.similarity
        if encoder is None:
            return [None] * len(records)
        from training.labels.similarity import cosines, teaches  # noqa: PLC0415  # SciPy is for those who ask for it

        rows = [
            row
            for row, (record, made) in enumerate(zip(records, decisions, strict=True))
            if made is Unlabelled.UNDECIDED or (isinstance(made, Label) and teaches(LabelledRecord(record, made)))
        ]
        found = dict(zip(rows, cosines([records[row] for row in rows], encoder, n_threads=1).tolist(), strict=True))
        return [found.get(row) for row in range(len(records))]

    def _vectors(
        self,
        records: Sequence[Record],
        decisions: Sequence[Decision],
        similarity: Sequence[float | None],
        asked: Sequence[bool],
    ) -> dict[str, pa.Array]:
        encoder = self.encoders.embedding
        if encoder is None:
            return {}
        rows = [
            row
            for row, (made, cosine, is_asked) in enumerate(zip(decisions, similarity, asked, strict=True))
            if isinstance(made, Label) or cosine is not None or is_asked
        ]
        return spread(self._embedded([records[row] for row in rows], encoder), rows, len(records))

    def _embedded(self, records: Sequence[Record], encoder: EncoderModel) -> dict[str, pa.Array]:
        if self.job.keeping is not None:
            from training.features.columns import kept_columns  # noqa: PLC0415  # the same

            return kept_columns(records, self.job.keeping, encoder, n_threads=1)
        from training.embeddings import embed  # noqa: PLC0415  # the same

        table = embed([record.prompt for record in records], encoder, cache_dir=None, n_threads=1)
        return vector_columns(table)

    def piece(self, number: int) -> Piece:
        """Return what became of all rows taken."""
        if self.records:
            self._label()
        if self.rejected:
            places, rejected = zip(*self.rejected, strict=True)
            self.tables.append(rejected_rows(places, rejected, row_schema(self.job.beside)))
        held = {
            stage: {bucket: pickle.dumps(rows, pickle.HIGHEST_PROTOCOL) for bucket, rows in buckets.items()}
            for stage, buckets in self.held.items()
        }
        return Piece(
            number,
            rows=stream_of(self.tables),
            questions=stream_of(self.questions),
            n_entries=self.n_entries,
            held=held,
            score_names=list(self.score_names),
        )


def stream_of(tables: Sequence[pa.Table]) -> bytes:
    """Return rows as a piece holds them: one Arrow stream by place; empty without any."""
    if not tables:
        return b""
    table = pa.concat_tables(tables).combine_chunks().sort_by([(name, "ascending") for name in PLACE])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def _put_together(unit: Bucket, desk: _Desk, job: Job) -> None:
    held = _held_rows(unit)
    match unit.stage:
        case Stage.PARTS:
            parts = Parts()
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


def _score(held: Sequence[HeldRow], name: str, desk: _Desk) -> None:
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


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()
