"""Desk: where the rows of one unit are sorted: finished, or waiting for rows of other units.

Comes in: rows as they were read. Goes out: a `Piece`, in which the finished ones are labelled and embedded.
"""

from __future__ import annotations

import hashlib
import pickle
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from turnout.training.encoders.encoders import EncoderModel
from turnout.training.labels import Decision, Unlabelled, label_records
from turnout.training.logs.join import DIGEST_BYTES, join_digest, may_join, whole_digest
from turnout.training.logs.parts import Place
from turnout.training.logs.quarantine import Rejected
from turnout.training.logs.readers import Entry, EntryPart
from turnout.training.logs.records import Label, LabelledRecord, Record
from turnout.training.logs.rows import decode_row
from turnout.training.logs.tables import RawRow
from turnout.training.pipeline.job import Job
from turnout.training.pipeline.judged import is_question, question_rows
from turnout.training.pipeline.messages import HeldRow, Piece, Stage
from turnout.training.pipeline.rows import PLACE, record_rows, rejected_rows, row_schema, spread

LABELLED_AT_ONCE = 1000
"""Records held while a unit is worked on."""


@dataclass(frozen=True)
class Encoders:
    """Encoders that a job names; None where it names none."""

    similarity: EncoderModel | None
    features: EncoderModel | None


@dataclass
class Desk:
    """Where the rows of one unit are sorted: finished, or waiting for rows of other units."""

    job: Job
    encoders: Encoders
    n_entries: int = 0
    records: list[tuple[Place, Record]] = field(default_factory=list)
    rejected: list[tuple[Place, Rejected]] = field(default_factory=list)
    tables: list[pa.Table] = field(default_factory=list)
    questions: list[pa.Table] = field(default_factory=list)
    held: dict[Stage, dict[int, list[HeldRow]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    score_names: dict[str, None] = field(default_factory=dict)
    odd_fields: Counter[str] = field(default_factory=Counter)
    other_models: Counter[str] = field(default_factory=Counter)

    def take(self, place: Place, entry: Entry) -> None:
        """Take a row as it was read."""
        self.n_entries += 1
        if entry.part is EntryPart.WHOLE or entry.reason:
            self.settle(place, self.decoded(place, entry), Stage.PARTS)
        elif entry.part is EntryPart.SCORE:
            self.score_names[entry.fields["name"]] = None
            self._hold(Stage.SCORES, entry.key, place, entry)
        else:
            self._hold(Stage.PARTS, entry.key, place, entry)

    def decoded(self, place: Place, entry: Entry) -> Record | Rejected:
        """Return the record that an entry holds, or why there is none."""
        raw = RawRow(place.line, entry.fields, entry.reason, place.index)
        row = decode_row(raw, self.job.paths[place.file], self.job.pair)
        if isinstance(row, Record):
            self.odd_fields.update(row.odd_fields)
            self.other_models.update(row.other_models)
        return row

    def settle(self, place: Place, row: Record | Rejected, done: Stage) -> None:
        """Finish a row for which `done` is over, or hold it for the stage that it needs next."""
        if isinstance(row, Rejected):
            self.rejected.append((place, row))
        elif self.job.has_scores and done is Stage.PARTS:
            self._hold(Stage.SCORES, row.id, place, row)
        elif done is not Stage.JOIN and may_join(row, self.job.reading.join):
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
        vectors = self._features(records, found.decisions, similarity, asked)
        digests = [whole_digest(record, self.job.reading.join) for record in records]
        self.tables.append(record_rows(places, records, found.decisions, similarity, asked, digests, vectors))
        if any(asked):
            self.questions.append(question_rows(places, records, found.decisions, similarity, asked, digests))

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
        from turnout.training.labels.similarity import cosines, teaches  # noqa: PLC0415  # SciPy is for those who ask for it

        rows = [
            row
            for row, (record, made) in enumerate(zip(records, decisions, strict=True))
            if made is Unlabelled.UNDECIDED or (isinstance(made, Label) and teaches(LabelledRecord(record, made)))
        ]
        found = dict(zip(rows, cosines([records[row] for row in rows], encoder, n_threads=1).tolist(), strict=True))
        return [found.get(row) for row in range(len(records))]

    def _features(
        self,
        records: Sequence[Record],
        decisions: Sequence[Decision],
        similarity: Sequence[float | None],
        asked: Sequence[bool],
    ) -> dict[str, pa.Array]:
        encoder, keeping = self.encoders.features, self.job.keeping
        if encoder is None or keeping is None:
            return {}
        rows = [
            row
            for row, (made, cosine, is_asked) in enumerate(zip(decisions, similarity, asked, strict=True))
            if isinstance(made, Label) or cosine is not None or is_asked
        ]
        from turnout.training.dataset.features.columns import kept_columns  # noqa: PLC0415  # the same

        return spread(kept_columns([records[row] for row in rows], keeping, encoder, n_threads=1), rows, len(records))

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
            odd_fields=self.odd_fields,
            other_models=self.other_models,
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


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()
