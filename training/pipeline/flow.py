"""Flow: the way of logs through the pipeline.

Comes in: logs and how to label them. Goes out: the file of labels, the quarantine and the ledger, the same to the
byte whatever the engine and the number of its workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from turnout.serving.bundles.manifest import Encoder
from turnout.serving.bundles.registry import find_encoder
from turnout.serving.router.features import SCHEMA_VERSION
from turnout.training.dataset.features.schema import FIELDS
from turnout.training.encoders.encoders import load_encoder
from turnout.training.errors import DataRefused
from turnout.training.labels import Unlabelled
from turnout.training.labels.ledger import Ledger
from turnout.training.labels.stored import METADATA_KEY, Origin
from turnout.training.logs.entries import Seen
from turnout.training.logs.quarantine import cut_notice, odd_notice
from turnout.training.logs.readers import form_named
from turnout.training.logs.rows import check_fields
from turnout.training.logs.stored_files import LogFile
from turnout.training.pipeline.duplicates import Duplicates
from turnout.training.pipeline.engine import Engine
from turnout.training.pipeline.job import Job
from turnout.training.pipeline.judged import AskedQuestions, Questions, with_judged
from turnout.training.pipeline.messages import (
    Bucket,
    LogToSurvey,
    Piece,
    Stage,
    Stretch,
    Survey,
    Unit,
    decode_piece,
    encode,
)
from turnout.training.pipeline.output import Output, refuse_before_paying
from turnout.training.pipeline.similar import Similarity, with_similar
from turnout.training.pipeline.spool import Spool, spool_beside
from turnout.training.pipeline.work import Worker
from turnout.training.progress import Reporter

if TYPE_CHECKING:
    from turnout.training.judge.labelling import JudgeLabels  # has an extra of its own

VECTORS_KEY = b"turnout.vectors"
SMALL_BYTES = 4 << 20
"""Logs that one worker has labelled before a second one has started."""
BUCKET_BYTES = 16 << 20
"""About how much text a bucket may hold; put together, it takes some five times that in a worker."""
ROUND_BYTES = 64 << 20
"""How much of the buckets is sent at a time to workers that don't see our disk."""


class VectorsMetadata(msgspec.Struct, frozen=True):
    """What the vectors in a file of labels are, kept in its metadata.

    Attributes:
        encoder: of `dense`.
        feature_schema: of `structural`, `lexical_buckets` and `lexical_counts`.
    """

    encoder: Encoder
    feature_schema: int = SCHEMA_VERSION


def label_stream(logs: Sequence[LogFile], out: Path, job: Job, engine: Engine, reporter: Reporter) -> Ledger:
    """Label logs, write one row a record, and return the ledger.

    Raises:
        DataRefused: a log can't be read, is not what it should be, or most rows are in quarantine.
    """
    with labelled(logs, out, job, engine, reporter) as flow:
        return flow.write()


@contextmanager
def labelled(logs: Sequence[LogFile], out: Path, job: Job, engine: Engine, reporter: Reporter) -> Iterator[Flow]:
    """Read and label logs; until the end of the block judges may be asked and the result written.

    Raises:
        DataRefused: a log can't be read, or is not what it should be.
    """
    check_fields(job.reading.columns)
    _check_encoders(job)
    with spool_beside(out) as spool:
        flow = Flow(job, engine, spool, reporter)
        surveys = flow.survey(logs)
        files = {str(path): found.sha256 for path, found in zip(logs, surveys, strict=True)}
        flow.salt(files)
        flow.read(logs, surveys)
        for stage in Stage:
            flow.put_together(stage)
        origin = {METADATA_KEY: msgspec.json.encode(Origin(job.pair, job.margin, files))}
        flow.output = Output(out, spool.folder, _metadata(flow.job) | origin, FIELDS if job.keeping else job.beside)
        yield flow


def _check_encoders(job: Job) -> None:
    """Find out that an encoder can't be read before any log is; raises `DataRefused`."""
    for name in {job.similarity, job.encoder} - {""}:
        load_encoder(find_encoder(name))


def _metadata(job: Job) -> dict[bytes, bytes]:
    """Return what the metadata says of the columns beside the labels."""
    if not job.encoder:
        return {}
    encoder = load_encoder(find_encoder(job.encoder))
    if job.keeping is None:
        return {VECTORS_KEY: msgspec.json.encode(VectorsMetadata(encoder.manifest_entry))}
    from turnout.training.dataset.features.origin import feature_metadata  # noqa: PLC0415  # SciPy is for those who ask for it

    return feature_metadata(job.keeping, encoder)


@dataclass
class Flow:
    """One run: what is done stage by stage, and what is known so far."""

    job: Job
    engine: Engine
    spool: Spool
    reporter: Reporter
    n_entries: int = 0
    score_names: set[str] = field(default_factory=set)
    odd_fields: Counter[str] = field(default_factory=Counter)
    other_models: Counter[str] = field(default_factory=Counter)
    recognised: str = ""
    similarity: Similarity = field(default_factory=Similarity)
    duplicates: Duplicates = field(default_factory=Duplicates)
    is_small: bool = True
    questions: Questions = field(init=False)
    output: Output = field(init=False)

    def __post_init__(self) -> None:
        self.questions = Questions(self.spool.part("questions"), self.duplicates)

    def survey(self, logs: Sequence[LogFile]) -> list[Survey]:
        """Look at every log; a log that can't be read ends it, the first of them by name."""
        found: dict[int, Piece] = {}
        units = [LogToSurvey(number, str(path)) for number, path in enumerate(logs)]
        with self.reporter.stage("Looking at logs", len(logs)) as advance:
            for piece in self._run(units, in_threads=True):
                found[piece.number] = piece
                advance(1)
        pieces = [_accepted(found[number]) for number in range(len(logs))]
        return [piece.survey for piece in pieces if piece.survey is not None]

    def salt(self, files: Mapping[str, str]) -> None:
        """Give workers the salt of the digests that they keep; `files` are the SHA-256 of the logs by name."""
        if keeping := self.job.keeping:
            cache_dir = keeping.cache_dir if self.engine.shares_disk else None
            self.job = replace(self.job, keeping=replace(keeping.salted(files), cache_dir=cache_dir))

    def read(self, logs: Sequence[LogFile], surveys: Sequence[Survey]) -> None:
        """Read and label all rows, but for those that wait for others."""
        n_bytes = sum(found.n_bytes for found in surveys)
        self.is_small = n_bytes <= SMALL_BYTES
        forms = [form_named(name) for name in dict.fromkeys(found.form for found in surveys)]
        self.recognised = "; ".join(f"{form.name} ({form.title})" for form in forms)
        has_scores = any(form_named(found.form).has_scores for found in surveys)
        self.job = replace(self.job, n_buckets=1 + n_bytes // BUCKET_BYTES, has_scores=has_scores)
        parts = [(file, block) for file, found in enumerate(surveys) for block in found.blocks]
        units = [
            Stretch(number, file, str(logs[file]), surveys[file].kind, surveys[file].form, block)
            for number, (file, block) in enumerate(parts)
        ]
        seen: dict[int, Seen] = {}
        with self.reporter.stage("Reading and labelling", len(units)) as advance:
            for piece in self._run(units, in_threads=self.is_small):
                self._keep(_accepted(piece))
                seen[piece.number] = Seen(
                    dict.fromkeys(piece.columns),
                    Counter(piece.other_pairs),
                    piece.n_others,
                    Counter(piece.kinds),
                    piece.n_sampled,
                )
                advance(1)
        whole = [Seen() for _ in logs]
        for unit in units:
            whole[unit.file].add(seen[unit.number])
        for file, found in enumerate(surveys):
            whole[file].refuse_wrong_file(logs[file], self.job.pair, self.job.reading.columns, form_named(found.form))

    def put_together(self, stage: Stage) -> None:
        """Put together the rows that wait for a stage, and label them or let them wait for the next."""
        paths = self.spool.buckets(stage)
        if not paths:
            return
        named = self.job.reading.score or (min(self.score_names) if len(self.score_names) == 1 else "")
        with self.reporter.stage(f"Putting together: {stage}", len(paths)) as advance:
            for round_ in self._rounds(paths):
                units = [self._bucket(number, stage, path, named) for number, path in enumerate(round_)]
                for piece in self._run(units, in_threads=self.is_small):
                    self._keep(_accepted(piece))
                    advance(1)
        for path in paths:
            path.unlink()

    def asked(self, n_known: int, seed: int) -> AskedQuestions:
        """Return the rows that judges are to be asked about, so many with a known label among them.

        Raises:
            DataRefused: most rows are in quarantine.
        """
        refuse_before_paying(self.spool.sorted_rows(), self.n_entries)
        return self.questions.asked(n_known, seed, self.similarity.rule())

    def write(self, judged: JudgeLabels | None = None) -> Ledger:
        """Write all rows, with the judges' labels where there are any, and return the ledger.

        Raises:
            DataRefused: most rows are in quarantine.
        """
        try:
            with self.reporter.stage("Writing"):
                self.output.write(self.finished(judged), self.n_entries)
        except DataRefused:
            self.reporter.say(f"the logs were read as {self.recognised}")
            raise
        ledger = self.output.tally.ledger(self.n_entries)
        self._say_what_was_lost()
        if ledger.rows and not ledger.labelled:
            self.reporter.say(self._why_nothing(ledger))
        return ledger

    def _say_what_was_lost(self) -> None:
        name = self.job.reading.score
        if name and self.score_names and name not in self.score_names:
            self.reporter.say(f"no score is named {name}; found: {', '.join(sorted(self.score_names))}")
        elif name and not self.score_names:
            self.reporter.say(f"no score is named {name}: the logs hold none")
        for notice in (*odd_notice(self.odd_fields), *(cut_notice(*place) for place in self.output.cut)):
            self.reporter.say(notice)

    def _why_nothing(self, ledger: Ledger) -> str:
        """Return why no row has a label, what the logs were taken for, and what to type."""
        pair, why = self.job.pair, ", ".join(f"{name} {count}" for name, count in ledger.abstained.items())
        read = f"{ledger.rows} rows were read as {self.recognised}"
        if self.other_models:
            found = ", ".join(f"{name} ({count})" for name, count in self.other_models.most_common(10))
            if ledger.abstained.keys() == {Unlabelled.NO_ANSWER}:
                return (
                    f"no answer of {pair.strong} or {pair.weak}; found {found}: name the pair with --strong and "
                    f"--weak; {read}"
                )
        return (
            f"no row has a label ({why}); {read}; a label needs both models' answers to a request, and scores, a "
            "preference, a reference, or a judge (--judge)"
        )

    def finished(self, judged: JudgeLabels | None = None) -> Iterator[pa.Table]:
        """Yield all finished rows by place, with what could only be said at the end: late labels and repetition."""
        if self.job.keeping is not None:
            from turnout.training.dataset.features.repeats import with_repeats  # noqa: PLC0415  # rensa is for those who ask for it

            return with_repeats(partial(self._labelled, judged), self.spool.folder)
        return self._labelled(judged)

    def _labelled(self, judged: JudgeLabels | None) -> Iterator[pa.Table]:
        rule = self.similarity.rule()
        tables = (with_similar(table, rule) for table in self.duplicates.left_out(self.spool.sorted_rows()))
        return tables if judged is None else with_judged(tables, judged)

    def _run(self, units: Sequence[Unit], *, in_threads: bool = False) -> Iterator[Piece]:
        messages = [encode(unit) for unit in units]
        return map(decode_piece, self.engine.run(partial(Worker, self.job), messages, in_threads=in_threads))

    def _keep(self, piece: Piece) -> None:
        self.n_entries += piece.n_entries
        self.score_names.update(piece.score_names)
        self.odd_fields.update(piece.odd_fields)
        self.other_models.update(piece.other_models)
        if piece.rows:
            rows = self.spool.add_rows(piece.rows)
            self.duplicates.add(rows)
            if self.job.similarity:
                self.similarity.add(rows)
        if piece.questions:
            self.questions.add(piece.questions)
        for stage, buckets in piece.held.items():
            for bucket, held in buckets.items():
                self.spool.hold(stage, bucket, held)

    def _rounds(self, paths: Sequence[Path]) -> Iterator[list[Path]]:
        """Yield the buckets that are worked on in one run: all where workers read them themselves."""
        if self.engine.shares_disk:
            yield list(paths)
            return
        round_, size = list[Path](), 0
        for path in paths:
            round_.append(path)
            size += path.stat().st_size
            if size >= ROUND_BYTES:
                yield round_
                round_, size = [], 0
        if round_:
            yield round_

    def _bucket(self, number: int, stage: Stage, path: Path, score_name: str) -> Bucket:
        content = b"" if self.engine.shares_disk else path.read_bytes()
        return Bucket(number, stage, str(path.resolve()), content, score_name)


def _accepted(piece: Piece) -> Piece:
    if piece.refused:
        raise DataRefused(piece.refused)
    return piece
