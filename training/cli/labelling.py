"""Labelling: `turnout label`, from log files to a file of labels and a ledger.

Apart from `turnout.training.cli.train`, because fitting and drawing are not needed here and take a second to import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from turnout.serving.bundles.bundle import Pair
from turnout.serving.cli.tables import console
from turnout.training.dataset.features.keep import Keeping
from turnout.training.judge.settings import JudgeSettings
from turnout.training.labels import Unlabelled
from turnout.training.labels.graders.code import Limits
from turnout.training.labels.ledger import Ledger, ledger_table
from turnout.training.logs.reading import Reading
from turnout.training.logs.stored_files import LogFile
from turnout.training.pipeline.choice import EngineChoice
from turnout.training.progress import Reporter

if TYPE_CHECKING:
    from turnout.training.judge.summary import Summary
    from turnout.training.pipeline.job import Job

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
    from turnout.training.pipeline.job import Job  # takes a while

    reporter = Reporter(quiet=quiet)
    limits = Limits() if run_code else None
    job = Job(pair, reading, tuple(map(str, logs)), margin, limits, similarity, embedding, keeping)
    made = _labelled(logs, out, job, engine, judge, reporter, as_json=as_json)
    if made is None:
        return
    ledger, judging = made
    if ledger.abstained.keys() == {Unlabelled.NO_ANSWER} and not ledger.labelled:
        reporter.say(f"no row has an answer of {pair.strong} or {pair.weak}: name the models with --strong and --weak")
    if as_json:
        print(msgspec.json.encode(msgspec.to_builtins(ledger) | ({"judge": judging} if judging else {})).decode())
        return
    if judging is not None:
        from turnout.training.cli.judging import print_judging

        print_judging(judging, out)
    console().print(ledger_table(ledger))
    print(out)


def _labelled(
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
    from turnout.training.pipeline.engine import open_engine
    from turnout.training.pipeline.flow import label_stream, labelled

    if judge is None:
        return label_stream(logs, out, job, open_engine(engine), reporter), None
    from turnout.training.cli.judging import label_by_judges, print_estimate  # needs the extra `judge`
    from turnout.training.judge.labelling import Panel

    panel = Panel.of(judge, job.pair)
    job = replace(job, asks_judges=True, judges_known=judge.known_rows > 0)
    with labelled(logs, out, job, open_engine(engine), reporter) as flow:
        asked = flow.asked(judge.known_rows, judge.seed)
        if judge.is_dry_run:
            print_estimate(asked, panel, judge, as_json=as_json)
            return None
        judged = label_by_judges(asked, panel, judge, out, flow.spool.folder / "verdicts", reporter)
        from turnout.training.judge.summary import summarise  # takes a second

        return flow.write(judged.labels), summarise(judged)
