"""What `turnout label --judge` does between the other labellers and the labels file."""

from __future__ import annotations

from pathlib import Path

import msgspec

from serving.bundle import Pair
from serving.tables import console
from training.calls.estimate import estimate
from training.judge.labelling import judge_rows, plan_judging
from training.judge.settings import JudgeSettings
from training.judge.summary import Summary, summarise, summary_lines, summary_table, write_verdicts
from training.labels import Labelled
from training.progress import Reporter
from training.records import Record

EXPECTED_COMPLETION_TOKENS = 80
"""Of one verdict: two sentences of reason and the JSON around them."""


def verdicts_path(out: Path) -> Path:
    """Return where the verdicts behind a labels file lie."""
    return out.with_name(f"{out.name}.judge.jsonl")


def default_cache(out: Path) -> Path:
    """Return where the cache lies unless another file is named: beside the labels, so that a rerun finds it."""
    return out.with_name(f"{out.name}.judge.sqlite")


def label_by_judges(
    records: list[Record],
    found: Labelled,
    pair: Pair,
    settings: JudgeSettings,
    out: Path,
    reporter: Reporter,
    *,
    as_json: bool,
) -> tuple[Labelled, Summary] | None:
    """Judge what is undecided and write the verdicts; None after a dry run, which prints what it would cost."""
    plan = plan_judging(records, found, pair, settings)
    if settings.is_dry_run:
        told = estimate(plan.flat, settings.cache, settings.caps, EXPECTED_COMPLETION_TOKENS)
        print(msgspec.json.encode(told).decode() if as_json else told.text)
        return None
    judged = judge_rows(records, found, plan, settings, reporter)
    write_verdicts(verdicts_path(out), judged)
    return judged.labelled, summarise(judged)


def print_judging(summary: Summary, out: Path) -> None:
    """Print the figures of the judges."""
    console().print(summary_table(summary))
    for line in summary_lines(summary):
        print(line)
    print(verdicts_path(out))
