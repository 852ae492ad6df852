"""Labelling: `turnout label`, from log files to a file of labels and a ledger.

Apart from `training.commands`, because fitting and drawing are not needed here and take a second to import.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from training.labels import label_records
from training.labels.graders.code import Limits
from training.labels.ledger import Ledger, labels_table, ledger_of, ledger_table
from training.labels.stored import origin_of, with_origin
from training.logs import read_records
from training.parquet import write_parquet
from training.pipeline.choice import EngineChoice
from training.progress import Reporter
from training.quarantine import write_quarantine
from training.reading import Reading
from training.stored_files import LogFile

if TYPE_CHECKING:
    from training.judge.summary import Summary

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
    if judge is None:
        from training.pipeline.engine import open_engine  # takes a while
        from training.pipeline.flow import label_stream
        from training.pipeline.work import Job

        job = Job(pair, reading, tuple(map(str, logs)), margin, limits, similarity, embedding, keeping)
        ledger = label_stream(logs, out, job, open_engine(engine), reporter)
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


def _label_in_memory(
    logs: Sequence[LogFile],
    out: Path,
    pair: Pair,
    reading: Reading,
    margin: float,
    judge: JudgeSettings,
    limits: Limits | None,
    similarity: str,
    keeping: Keeping | None,
    reporter: Reporter,
    *,
    as_json: bool,
) -> tuple[Ledger, Summary] | None:
    """Label in memory, where judges find their rows at hand; None after a dry run."""
    encoder = load_encoder(find_encoder(similarity)) if similarity else None
    kept_by = load_encoder(find_encoder(keeping.encoder)) if keeping else None
    with reporter.stage("Reading and labelling"), without_cycle_collection():
        read = read_records(logs, pair, reading).joined(reading.join)
        read.refuse_if_mostly_bad()
        found = label_records(read.records, margin=margin, code_limits=limits, similarity_encoder=encoder)
    from training.judge.commands import label_by_judges  # needs the extra `judge`

    judged = label_by_judges(read.records, found, pair, judge, out, reporter, as_json=as_json)
    if judged is None:
        return None
    found, judging = judged
    table, origin = labels_table(read.records, found.decisions), origin_of(logs, pair, margin)
    if keeping is not None and kept_by is not None:
        from training.features.writing import with_features  # near-duplicates and features are for those who keep them

        table = with_features(table, read.records, found, origin, keeping, kept_by, reporter)
    write_parquet(out, with_origin(table, origin))
    if read.quarantine:
        write_quarantine(out.parent / f"{out.name}.quarantine.jsonl", read.quarantine)
    return ledger_of(read, found), judging
