"""What the tests of paid calls share: logs to judge, settings for the fake endpoint, and the command line."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fake_endpoint import API_KEY, FakeEndpoint
from tests.log_builders import gateway_row, record, write_log
from turnout.serving.bundles.manifest import Pair
from turnout.training.calls.address import Address
from turnout.training.calls.budget import Caps
from turnout.training.calls.tariff import GivenPrices
from turnout.training.judge.labelling import JudgedLabels, JudgePanel, judge_questions
from turnout.training.judge.opinions import Opinions
from turnout.training.judge.questions import Question
from turnout.training.judge.settings import JudgeSettings
from turnout.training.judge.summary import Summary, summarise
from turnout.training.labels import Labelled, label_records
from turnout.training.logs.parts import Place
from turnout.training.logs.records import Label, Record
from turnout.training.pipeline.desk import stream_of
from turnout.training.pipeline.duplicates import Duplicates
from turnout.training.pipeline.judged import AskedQuestions, Questions, is_question, question_rows
from turnout.training.pipeline.spool import Spool
from turnout.training.progress import Reporter

KEY_ENV = "TURNOUT_TEST_KEY"
PRICE_INPUT, PRICE_OUTPUT = 2.0, 8.0
PRICES = GivenPrices(PRICE_INPUT, PRICE_OUTPUT)
NO_CAP = Caps(1e9)


def undecided(row: int, strong: int, weak: int, **fields: Any) -> Record:
    """Return a record whose answers differ, of these qualities; only a judge can label it."""
    texts = f"strong answer {row}, quality={strong}", f"weak answer {row}, quality={weak}"
    return record(f"Question {row}?", *texts, id=f"r{row}", file="log.jsonl", line=row + 1, **fields)


def undecided_row(row: int, strong: int, weak: int) -> dict[str, Any]:
    """Return the same as a row of a gateway log."""
    answers = {"gpt-4o": {"content": f"strong answer {row}, quality={strong}"}}
    answers["gpt-4o-mini"] = {"content": f"weak answer {row}, quality={weak}"}
    return gateway_row(f"Question {row}?", id=f"r{row}", responses=answers)


def undecided_log(path: Path, n: int) -> Path:
    return write_log(path, [undecided_row(row, row % 5, row * 3 % 7) for row in range(n)])


def settings(endpoint: FakeEndpoint, cache: Path, **fields: Any) -> JudgeSettings:
    address = Address(endpoint.url, KEY_ENV, fields.pop("timeout_s", 10.0))
    return JudgeSettings(
        **{"models": ("judge-1",), "address": address, "cache": cache, "caps": NO_CAP, "prices": PRICES} | fields
    )


def question_of(one: Record) -> Question:
    """Return a record with both answers as judges get it."""
    return Question(one.id, one.file, one.line, one.index, one.prompt.text, one.strong.content, one.weak.content)


@dataclass(frozen=True)
class JudgedRecords:
    """What judging made of records: all labels, and each row's opinions."""

    labelled: Labelled
    opinions: list[Opinions]
    judged: JudgedLabels

    @property
    def summary(self) -> Summary:
        return summarise(self.judged)


def asked(records: list[Record], found: Labelled, chosen: JudgeSettings, folder: Path) -> AskedQuestions:
    """Return what judges are asked of these records, which lie in a folder as the pipeline leaves them."""
    (folder / "spool").mkdir()
    questions = Questions(Spool(folder / "spool"), Duplicates())
    places = [Place(0, one.line, one.index) for one in records]
    is_asked = [is_question(*made, with_known=True) for made in zip(records, found.decisions, strict=True)]
    rows = question_rows(places, records, found.decisions, [None] * len(records), is_asked, [None] * len(records))
    questions.add(stream_of([rows]))
    return questions.asked(chosen.known_rows, chosen.seed, None)


def judge(records: list[Record], chosen: JudgeSettings, folder: Path) -> JudgedRecords:
    """Label by all labellers, the judges last."""
    found, opinions = label_records(records), []
    questions = asked(records, found, chosen, folder)
    judged = judge_questions(questions, JudgePanel.of(chosen, Pair()), chosen, Reporter(quiet=True), opinions.append)
    lines = [row.question.line for row in opinions if row.question.known is None]
    labels = zip(lines, judged.labels.match.tolist(), judged.labels.confidence.tolist(), strict=True)
    given = {line: Label(match, "judge", worth) for line, match, worth in labels if match >= 0}
    decisions = [given.get(one.line, made) for one, made in zip(records, found.decisions, strict=True)]
    return JudgedRecords(Labelled.of(records, decisions), opinions, judged)


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


def arguments(endpoint: FakeEndpoint, *more: object) -> list[str]:
    """Return the options that lead `label` to the fake endpoint."""
    given = {"--judge-url": endpoint.url, "--judge-key-env": KEY_ENV}
    given |= {"--price-input": PRICE_INPUT, "--price-output": PRICE_OUTPUT}
    ours = [word for name, value in given.items() if name not in more for word in (name, value)]
    return [str(argument) for argument in ("--judge", "judge-1", *ours, *more)]


def turnout(monkeypatch: Any, capsys: Any, *given: object) -> Ended:
    """Run `turnout` in this process as its entry point does, with the API key in the environment."""
    from turnout.serving.cli import app as cli

    monkeypatch.setenv(KEY_ENV, API_KEY)
    monkeypatch.setattr(sys, "argv", ["turnout", *map(str, given)])
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    capsys.readouterr()
    code = 0
    try:
        cli.main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    out, err = capsys.readouterr()
    return Ended(code, out, err)


def start(*given: object, stderr: Any = subprocess.DEVNULL, script: str = "") -> subprocess.Popen[bytes]:
    """Start `turnout`, or a script that does, in a process of its own."""
    environment = os.environ | {KEY_ENV: API_KEY, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, *(["-c", script] if script else ["-m", "turnout.serving.cli.app"]), *map(str, given)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=stderr)
