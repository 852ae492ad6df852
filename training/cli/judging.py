"""What `turnout label --judge` does between the other labellers and the labels file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from turnout.serving.cli.tables import console
from turnout.training.calls.estimate import estimate
from turnout.training.judge.labelling import JudgedLabels, JudgePanel, PanelCalls, Questions, judge_questions
from turnout.training.judge.opinions import Opinions
from turnout.training.judge.settings import JudgeSettings
from turnout.training.judge.verdict_file import verdict_lines
from turnout.training.progress import Reporter

if TYPE_CHECKING:
    from turnout.training.judge.summary import Summary  # brings scikit-learn and SciPy, which take a second

EXPECTED_COMPLETION_TOKENS = 80
"""Of one verdict: two sentences of reason and the JSON around them."""


def verdicts_path(out: Path) -> Path:
    """Return where the verdicts behind a labels file lie."""
    return out.with_name(f"{out.name}.judge.jsonl")


def default_cache(out: Path) -> Path:
    """Return where the cache lies unless another file is named: beside the labels, so that a rerun finds it."""
    return out.with_name(f"{out.name}.judge.sqlite")


def label_by_judges(
    questions: Questions, panel: JudgePanel, settings: JudgeSettings, out: Path, part: Path, reporter: Reporter
) -> JudgedLabels:
    """Judge what is undecided and write the verdicts, to `part` until all are there."""
    with part.open("wb") as file:

        def write(row: Opinions) -> None:
            file.writelines(verdict_lines(row, settings))

        judged = judge_questions(questions, panel, settings, reporter, write)
    part.replace(verdicts_path(out))
    return judged


def print_estimate(questions: Questions, panel: JudgePanel, settings: JudgeSettings, *, as_json: bool) -> None:
    """Print what judging would cost; sends nothing."""
    told = estimate(PanelCalls(questions, panel), settings.cache, settings.caps, EXPECTED_COMPLETION_TOKENS)
    print(msgspec.json.encode(told).decode() if as_json else told.text)


def print_judging(summary: Summary, out: Path) -> None:
    """Print the figures of the judges."""
    from turnout.training.judge.summary import summary_lines, summary_table  # the same

    console().print(summary_table(summary))
    for line in summary_lines(summary):
        print(line)
    print(verdicts_path(out))
