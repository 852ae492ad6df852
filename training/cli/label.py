"""`turnout label`: from log files to a file of labels and a ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from turnout.serving.bundles.manifest import Pair
from turnout.serving.cli.options import Flag
from turnout.serving.cli.tables import console
from turnout.serving.errors import UsageRefused
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.cli.options import (
    OUTPUT,
    PAIR,
    PAIRING,
    Cache,
    EncoderName,
    Flat,
    HarnessRules,
    Logs,
    Margin,
    OutputFormat,
    PairingOptions,
    PairOptions,
    Seed,
    cache_dir,
)
from turnout.training.cli.paid_options import JudgeOptions, PriceOptions
from turnout.training.dataset.features.keep import MAX_SALT_BYTES, Keep, Keeping
from turnout.training.encoders.encoders import DEFAULT_ENCODER
from turnout.training.errors import DataRefused
from turnout.training.judge.settings import JudgeSettings
from turnout.training.labels.graders.code import RunLimits
from turnout.training.labels.ledger import Ledger, ledger_table
from turnout.training.logs.reading import Reading
from turnout.training.logs.sources import check_out, find_logs
from turnout.training.logs.stored_files import LogFile
from turnout.training.pipeline.choice import EngineChoice, EngineName
from turnout.training.progress import Reporter

if TYPE_CHECKING:
    from turnout.training.judge.summary import Summary
    from turnout.training.pipeline.job import Job


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Where the work is done.

    Attributes:
        engine: Work in processes of this machine, or on a Ray cluster.
        ray_address: Ray cluster, as HOST:PORT or ray://HOST:PORT; without it, one of its own on this machine.
    """

    engine: EngineName = EngineName.NATIVE
    ray_address: str = ""

    @property
    def choice(self) -> EngineChoice:
        """The engine; raises `UsageRefused` for an address without Ray."""
        if self.ray_address and self.engine is not EngineName.RAY:
            raise UsageRefused("--ray-address needs --engine ray")
        return EngineChoice(self.engine, self.ray_address)


@dataclass(frozen=True, kw_only=True)
class KeepOptions:
    """What is written beside the labels.

    Attributes:
        keep: features: write vectors, counts and salted digests beside the labels, so that training needs neither logs
            nor prompts; prompts: labels only, training reads the logs again.
        salt: Salt of the digests of --keep features, 64 bytes at most. Files that are to be trained from together need
            the same; when empty it follows from the logs.
    """

    keep: Keep = Keep.PROMPTS
    encoder: EncoderName = DEFAULT_ENCODER
    harness_rules: HarnessRules = LATEST_HARNESS_RULES
    salt: str = ""
    cache: Cache = True

    def keeping(self, *, redacts: bool) -> Keeping | None:
        """Return what to keep; None for labels alone. Raises `UsageRefused` for a salt that is too long."""
        if self.keep is not Keep.FEATURES:
            return None
        if (n_bytes := len(self.salt.encode())) > MAX_SALT_BYTES:
            raise UsageRefused(f"--salt: expected at most {MAX_SALT_BYTES} bytes, got {n_bytes}")
        return Keeping(self.encoder, self.harness_rules, self.salt, cache_dir(self.cache), redacts)


JUDGES, PRICES, KEEPS, ENGINE = JudgeOptions(), PriceOptions(), KeepOptions(), EngineOptions()


def label(
    logs: Logs,
    /,
    *,
    out: Path,
    margin: Margin = 0.0,
    run_code: Flag = False,
    similarity: str = "",
    pair: Annotated[PairOptions, Flat] = PAIR,
    files: Annotated[PairingOptions, Flat] = PAIRING,
    judging: Annotated[JudgeOptions, Flat] = JUDGES,
    prices: Annotated[PriceOptions, Flat] = PRICES,
    keeps: Annotated[KeepOptions, Flat] = KEEPS,
    engine: Annotated[EngineOptions, Flat] = ENGINE,
    seed: Seed = 0,
    output: Annotated[OutputFormat, Flat] = OUTPUT,
) -> None:
    """Label a log by whether the weak model matched the strong one, and count who said so.

    With --judge, a language model compares the answers of rows that nothing else decides. Exit code 5: a batch is
    not done, run the same command later.

    Args:
        out: Parquet file to write: one row a record, match 0, 1 or null.
        run_code: Run the code in answers against tests given as reference, in a limited subprocess.
        similarity: Encoder, such as minilm-l3-int8, that also labels answers which say nearly the same; the threshold
            is fitted on rows whose truth is known. Off when empty.
    """
    judges = judging.settings(out, prices, seed)
    found = find_logs(logs)
    check_out(out, found)
    label_logs(
        found,
        out,
        pair.pair,
        files.reading,
        margin,
        judges,
        run_code=run_code,
        similarity=similarity,
        engine=engine.choice,
        quiet=output.quiet,
        as_json=output.as_json,
        keeping=keeps.keeping(redacts=prices.redact),
    )


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
    limits = RunLimits() if run_code else None
    job = Job(pair, reading, tuple(map(str, logs)), margin, limits, similarity, keeping)
    made = _labelled(logs, out, job, engine, judge, reporter, as_json=as_json)
    if made is None:
        return
    ledger, judging = made
    if as_json:
        print(msgspec.json.encode(msgspec.to_builtins(ledger) | ({"judge": judging} if judging else {})).decode())
        _refuse_nothing(ledger, out)
        return
    if judging is not None:
        from turnout.training.cli.judging import print_judging  # needs the extra `judge`

        print_judging(judging, out)
    console().print(ledger_table(ledger))
    print(out)
    _refuse_nothing(ledger, out)


def _refuse_nothing(ledger: Ledger, out: Path) -> None:
    """End with exit code 1 where no row has a label; why was said while they were written."""
    if not ledger.labelled:
        none = f"none of {ledger.rows} rows has a label" if ledger.rows else "the logs hold no rows: name other files"
        raise DataRefused(f"{out}: {none}")


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
    from turnout.training.judge.labelling import JudgePanel

    panel = JudgePanel.of(judge, job.pair)
    job = replace(job, asks_judges=True, judges_known=judge.known_rows > 0)
    with labelled(logs, out, job, open_engine(engine), reporter) as flow:
        asked = flow.asked(judge.known_rows, judge.seed)
        if judge.is_dry_run:
            print_estimate(asked, panel, judge, as_json=as_json)
            return None
        judged = label_by_judges(asked, panel, judge, out, flow.spool.folder / "verdicts", reporter)
        from turnout.training.judge.summary import summarise  # takes a second

        return flow.write(judged.labels), summarise(judged)
