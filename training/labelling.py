"""Labelling: `turnout label`, from log files to a file of labels and a ledger.

Apart from `training.commands`, because fitting and drawing are not needed here and take a second to import.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
from training.labels.ledger import labels_table, ledger_of, ledger_table
from training.labels.stored import origin_of, with_origin
from training.logs import read_records
from training.parquet import write_parquet
from training.progress import Reporter
from training.quarantine import write_quarantine
from training.reading import Reading


def label_logs(
    logs: Sequence[Path],
    out: Path,
    pair: Pair,
    reading: Reading,
    margin: float,
    judge: JudgeSettings | None = None,
    *,
    run_code: bool,
    similarity: str,
    quiet: bool,
    as_json: bool,
    keeping: Keeping | None = None,
) -> None:
    """Label logs, write one row a record, and print the ledger; with `keeping`, features beside the labels.

    Rows in = labelled + abstained + quarantined + merged into the row that holds the other answer, or the request.
    """
    encoder = load_encoder(find_encoder(similarity)) if similarity else None
    reporter = Reporter(quiet=quiet)
    with reporter.stage("Reading and labelling"), without_cycle_collection():
        read = read_records(logs, pair, reading).joined(reading.join)
        read.refuse_if_mostly_bad()
        limits = Limits() if run_code else None
        found = label_records(read.records, margin=margin, code_limits=limits, similarity_encoder=encoder)
    judging = None
    if judge is not None:
        from training.judge.commands import label_by_judges, print_judging  # needs the extra `judge`

        judged = label_by_judges(read.records, found, pair, judge, out, reporter, as_json=as_json)
        if judged is None:
            return
        found, judging = judged
    table, origin = labels_table(read.records, found.decisions), origin_of(logs, pair, margin)
    if keeping is not None:
        from training.features.writing import with_features  # near-duplicates and features are for those who keep them

        table = with_features(table, read.records, found, origin, keeping, reporter)
    write_parquet(out, with_origin(table, origin))
    if read.quarantine:
        write_quarantine(out.parent / f"{out.name}.quarantine.jsonl", read.quarantine)
    ledger = ledger_of(read, found)
    if as_json:
        print(msgspec.json.encode(msgspec.to_builtins(ledger) | ({"judge": judging} if judging else {})).decode())
        return
    if judging is not None:
        print_judging(judging, out)
    console().print(ledger_table(ledger))
    print(out)
