"""`turnout rules try`: what a rules file would change on a log, as a table by rule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from rich.table import Table

from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.cli.options import Bundles, folders_of
from turnout.serving.cli.tables import console
from turnout.serving.decision.rules import Rules
from turnout.serving.decision.rules.names import check_names, checked_rules
from turnout.training.cli.options import FILES, OUTPUT, EarlyExit, FileOptions, Flat, Logs, Output
from turnout.training.errors import DataRefused
from turnout.training.logs.read import read_records
from turnout.training.logs.reading import Reading
from turnout.training.logs.sources import find_logs
from turnout.training.logs.stored_files import LogFile
from turnout.training.offpolicy.rules_trial import RuleEffect, RulesTrial
from turnout.training.offpolicy.rules_trial import try_rules as trial_of
from turnout.training.progress import Reporter

NO_RULE = "(no rule)"


def try_rules(
    file: Path,
    logs: Logs,
    /,
    *,
    bundle: Bundles = (),
    against: Path | None = None,
    early_exit: EarlyExit = True,
    files: Annotated[FileOptions, Flat] = FILES,
    output: Annotated[Output, Flat] = OUTPUT,
) -> None:
    """Say what a rules file would change on a log: by rule, where requests go, why, and at what expected cost.

    Args:
        file: Rules file, TOML.
        against: Rules in force now; without it, none.
    """
    reading, found, folders = files.reading, find_logs(logs), folders_of(bundle)
    quiet, as_json = output.quiet, output.as_json
    try_rules_on_logs(file, found, folders, against, reading, early_exit=early_exit, quiet=quiet, as_json=as_json)


def try_rules_on_logs(
    file: Path,
    logs: Sequence[LogFile],
    folders: Sequence[Path],
    against: Path | None,
    reading: Reading,
    *,
    early_exit: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Print what a rules file would change on logs, against other rules or none.

    Raises:
        RulesRefused: a file is bad, or names what the bundles lack.
        DataRefused: the logs can't be read, or hold no request.
    """
    bundles = [load_bundle(folder) for folder in folders]
    new = _rules(file, bundles)
    old = Rules() if against is None else _rules(against, bundles)
    read = read_records(logs, bundles[0].manifest.pair, reading)
    read.refuse_if_mostly_bad()
    if not read.records:
        raise DataRefused(f"{', '.join(map(str, logs))}: no request to try the rules on")
    with Reporter(quiet=quiet).stage("Trying", len(read.records)) as advance:
        trial = trial_of(read.records, bundles, new, old, early_exit=early_exit, on_progress=advance)
    if as_json:
        print(msgspec.json.encode(trial).decode())
        return
    _print_trial(trial, "no rules" if against is None else against.name)
    if read.quarantine:
        print(f"{len(read.quarantine)} of {read.n_rows} rows could not be read")


def _rules(file: Path, bundles: Sequence[Bundle]) -> Rules:
    return checked_rules(file, lambda rules: check_names(rules, [bundle.manifest for bundle in bundles]))


def _print_trial(trial: RulesTrial, against: str) -> None:
    table = Table(title=f"Against {against}: {trial.total.changed} of {trial.total.requests} requests change")
    table.add_column("rule")
    for name in ("requests", "weak before", "weak after", "changed", "USD per 1,000 before", "USD after"):
        table.add_column(name, justify="right")
    table.add_column("decided by")
    for effect in [*trial.rules, trial.total]:
        table.add_row(*_cells(effect))
    console().print(table)
    if trial.idle:
        print(f"rules that no request fits: {', '.join(trial.idle)}")


def _cells(effect: RuleEffect) -> list[str]:
    return [
        effect.rule or NO_RULE,
        str(effect.requests),
        f"{effect.share_weak_before:.1%}",
        f"{effect.share_weak_after:.1%}",
        str(effect.changed),
        _usd(effect.usd_per_1k_before),
        _usd(effect.usd_per_1k_after),
        ", ".join(f"{reason} {count}" for reason, count in effect.reasons.items()),
    ]


def _usd(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
