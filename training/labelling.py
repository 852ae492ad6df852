"""Labelling: `turnout label`, from log files to a file of labels and a ledger.

Apart from `training.commands`, because fitting and drawing are not needed here and take a second to import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from serving.bundle import Pair
from serving.registry import find_encoder
from serving.tables import console
from training.collecting import without_cycle_collection
from training.encoders import load_encoder
from training.features.keep import Keeping
from training.judge.settings import JudgeSettings
from training.labels import Labelled, label_records
from training.labels.graders.code import Limits
from training.labels.ledger import Ledger, labels_table, ledger_of, ledger_table
from training.labels.stored import origin_of, with_origin
from training.logs import read_records
from training.parquet import write_parquet
from training.parts import Place
from training.pipeline.choice import EngineChoice
from training.progress import Reporter
from training.quarantine import write_quarantine
from training.reading import Reading
from training.records import Label, Record
from training.stored_files import LogFile

if TYPE_CHECKING:
    from training.judge.summary import Summary
    from training.pipeline.work import Job

NATIVE = EngineChoice()


def label_logs(
    logs: Sequence[LogFile],
    out: Path,
    pair: Pair,
    reading: Reading,
    margin: float,
    judge: JudgeSettings | None = None,
    *,
    run_code: bool,
    similarity: str,
    embedding: str = "",
    engine: EngineChoice = NATIVE,
    quiet: bool,
    as_json: bool,
    keeping: Keeping | None = None,
) -> None:
    """Label logs, write one row a record, and print the ledger; with `keeping`, features beside the labels.

    Rows in = labelled + abstained + quarantined + merged into the row that holds the other answer, or the request.
    """
    reporter = Reporter(quiet=quiet)
    limits = Limits() if run_code else None
    judging = None
    if keeping is None:
        from training.pipeline.work import Job  # takes a while

        job = Job(pair, reading, tuple(map(str, logs)), margin, limits, similarity, embedding)
        made = _label_in_pieces(logs, out, job, engine, judge, reporter, as_json=as_json)
    else:
        made = _label_in_memory(
            logs, out, pair, reading, margin, judge, limits, similarity, keeping, reporter, as_json=as_json
        )
    if made is None:
        return
    ledger, judging = made
    if as_json:
        print(msgspec.json.encode(msgspec.to_builtins(ledger) | ({"judge": judging} if judging else {})).decode())
        return
    if judging is not None:
        from training.judge.commands import print_judging

        print_judging(judging, out)
    console().print(ledger_table(ledger))
    print(out)


def _label_in_pieces(
    logs: Sequence[LogFile],
    out: Path,
    job: Job,
    engine: EngineChoice,
    judge: JudgeSettings | None,
    reporter: Reporter,
    *,
    as_json: bool,
) -> tuple[Ledger, Summary | None] | None:
    """Label in the pipeline, and ask the judges for what it leaves undecided; None after a dry run."""
    from training.pipeline.engine import open_engine
    from training.pipeline.flow import label_stream, labelled

    if judge is None:
        return label_stream(logs, out, job, open_engine(engine), reporter), None
    from training.judge.commands import label_by_judges, print_estimate  # needs the extra `judge`
    from training.judge.labelling import Panel

    panel = Panel.of(judge, job.pair)
    job = replace(job, asks_judges=True, judges_known=judge.known_rows > 0)
    with labelled(logs, out, job, open_engine(engine), reporter) as flow:
        asked = flow.asked(judge.known_rows, judge.seed)
        if judge.is_dry_run:
            print_estimate(asked, panel, judge, as_json=as_json)
            return None
        judged = label_by_judges(asked, panel, judge, out, flow.spool.folder / "verdicts", reporter)
        from training.judge.summary import summarise  # takes a second

        return flow.write(judged.labels), summarise(judged)


def _label_in_memory(
    logs: Sequence[LogFile],
    out: Path,
    pair: Pair,
    reading: Reading,
    margin: float,
    judge: JudgeSettings | None,
    limits: Limits | None,
    similarity: str,
    keeping: Keeping | None,
    reporter: Reporter,
    *,
    as_json: bool,
) -> tuple[Ledger, Summary | None] | None:
    """Label in memory, where judges and near-duplicates find their rows at hand; None after a dry run."""
    encoder = load_encoder(find_encoder(similarity)) if similarity else None
    with reporter.stage("Reading and labelling"), without_cycle_collection():
        read = read_records(logs, pair, reading).joined(reading.join)
        read.refuse_if_mostly_bad()
        found = label_records(read.records, margin=margin, code_limits=limits, similarity_encoder=encoder)
    judging = None
    if judge is not None:
        judged = _judge_in_memory(read.records, found, pair, judge, out, reporter, as_json=as_json)
        if judged is None:
            return None
        found, judging = judged
    table, origin = labels_table(read.records, found.decisions), origin_of(logs, pair, margin)
    if keeping is not None:
        from training.features.writing import with_features  # near-duplicates and features are for those who keep them

        table = with_features(table, read.records, found, origin, keeping, reporter)
    write_parquet(out, with_origin(table, origin))
    if read.quarantine:
        write_quarantine(out.parent / f"{out.name}.quarantine.jsonl", read.quarantine)
    return ledger_of(read, found), judging


def _judge_in_memory(
    records: Sequence[Record],
    found: Labelled,
    pair: Pair,
    judge: JudgeSettings,
    out: Path,
    reporter: Reporter,
    *,
    as_json: bool,
) -> tuple[Labelled, Summary] | None:
    from training.judge.commands import label_by_judges, print_estimate
    from training.judge.labelling import NAME, Panel
    from training.judge.summary import summarise
    from training.pipeline.judged import Questions, is_question, question_rows
    from training.pipeline.spool import spool_beside
    from training.pipeline.work import stream_of

    panel, places = Panel.of(judge, pair), [Place(0, number, 0) for number in range(len(records))]
    made = list(zip(records, found.decisions, strict=True))
    is_asked = [is_question(record, decision, with_known=judge.known_rows > 0) for record, decision in made]
    rows = question_rows(places, records, found.decisions, [None] * len(records), is_asked)
    with spool_beside(out) as spool:
        questions = Questions(spool.part("questions"))
        questions.add(stream_of([rows]))
        asked = questions.asked(judge.known_rows, judge.seed, None)
        if judge.is_dry_run:
            print_estimate(asked, panel, judge, as_json=as_json)
            return None
        judged = label_by_judges(asked, panel, judge, out, spool.folder / "verdicts", reporter)
    labels = zip(judged.labels.match.tolist(), judged.labels.confidence.tolist(), strict=True)
    decisions = []
    for (_, decision), was_asked in zip(made, is_asked, strict=True):
        match, confidence = next(labels) if was_asked and not isinstance(decision, Label) else (-1, 0.0)
        decisions.append(decision if match < 0 else Label(match, NAME, confidence))
    return Labelled.of(records, decisions), summarise(judged)
