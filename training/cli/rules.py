"""`turnout rules try`: what a rules file would change on a log, as a table by rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
from rich.table import Table

from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.cli.options import Bundles, folders_of
from turnout.serving.cli.tables import console
from turnout.serving.decision.rules import Rules
from turnout.serving.decision.rules.names import check_names, checked_rules
from turnout.training.cli.options import FILES, OUTPUT, EarlyExit, FileOptions, Flat, Logs, OutputFormat
from turnout.training.errors import DataRefused
from turnout.training.logs.read import read_records
from turnout.training.logs.reading import Reading
from turnout.training.logs.sources import find_logs
from turnout.training.logs.stored_files import LogFile
from turnout.training.offpolicy.rules_trial import RuleEffect, RulesTrial, can_follow_two_looks
from turnout.training.offpolicy.rules_trial import try_rules as trial_of
from turnout.training.progress import Reporter

NO_RULE = "(no rule)"
COLUMNS: dict[str, Callable[[RuleEffect], str]] = {
    "requests": lambda effect: str(effect.requests),
    "weak before": lambda effect: _share(effect.share_weak_before),
    "weak after": lambda effect: _share(effect.share_weak_after),
    "tried": lambda effect: f"{effect.share_tried_before:.1%} to {effect.share_tried_after:.1%}",
    "wait twice": lambda effect: " to ".join(
        map(_share, (effect.share_waits_twice_before, effect.share_waits_twice_after))
    ),
    "no answer": lambda effect: str(effect.no_answer),
    "changed": lambda effect: str(effect.changed),
    "USD per 1,000 before": lambda effect: _usd(effect.usd_per_1k_before),
    "USD after": lambda effect: _usd(effect.usd_per_1k_after),
}
OF_PAIRS = frozenset({"weak before", "weak after"})
"""Of a ladder each rung has a column instead."""
OF_TWO_LOOKS = frozenset({"tried", "wait twice", "no answer"})
"""Shares before and after, and how many requests would be tried that have no answer in the log."""


def try_rules(
    file: Path,
    logs: Logs,
    /,
    *,
    bundle: Bundles = (),
    against: Path | None = None,
    early_exit: EarlyExit = True,
    can_check: bool | None = None,
    files: Annotated[FileOptions, Flat] = FILES,
    output: Annotated[OutputFormat, Flat] = OUTPUT,
) -> None:
    """Say what a rules file would change on a log: by rule, where requests go, why, and at what expected cost.

    Args:
        file: Rules file, TOML.
        against: Rules in force now; without it, none.
        can_check: Callers have answers checked, so that the second look is asked about the weak answers of the log; by
            default where the bundle has a second look and the log holds such answers.
    """
    reading, found, folders = files.reading, find_logs(logs), folders_of(bundle)
    quiet, as_json = output.quiet, output.as_json
    try_rules_on_logs(
        file,
        found,
        folders,
        against,
        reading,
        early_exit=early_exit,
        can_check=can_check,
        quiet=quiet,
        as_json=as_json,
    )


def try_rules_on_logs(
    file: Path,
    logs: Sequence[LogFile],
    folders: Sequence[Path],
    against: Path | None,
    reading: Reading,
    *,
    early_exit: bool,
    can_check: bool | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Print what a rules file would change on logs, against other rules or none.

    With None for `can_check` callers do, where a bundle has a second look and the logs hold weak answers.

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
    checks = can_follow_two_looks(read.records, bundles) if can_check is None else can_check
    with Reporter(quiet=quiet).stage("Trying", len(read.records)) as advance:
        trial = trial_of(read.records, bundles, new, old, early_exit=early_exit, can_check=checks, on_progress=advance)
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
    columns = {name: cell for name, cell in COLUMNS.items() if trial.two_looks or name not in OF_TWO_LOOKS}
    if rungs := {**(trial.total.share_rungs_after or {}), **(trial.total.share_rungs_before or {})}:
        shares = {name: partial(_of_rung, name) for name in rungs}
        columns = {"requests": columns["requests"], **shares, **{n: c for n, c in columns.items() if n not in OF_PAIRS}}
    for name in columns:
        table.add_column(name, justify="right")
    table.add_column("decided by")
    for effect in [*trial.rules, trial.total]:
        table.add_row(effect.rule or NO_RULE, *(cell(effect) for cell in columns.values()), _reasons(effect))
    console().print(table)
    print(_how_callers_are(trial))
    if trial.idle:
        print(f"rules that no request fits: {', '.join(trial.idle)}")


def _how_callers_are(trial: RulesTrial) -> str:
    if not trial.two_looks:
        return "for callers that have no answers checked (one look)"
    said = "for callers that have answers checked (two looks; --no-can-check for others)"
    if not trial.total.no_answer:
        return said
    return (
        f"{said}\nto be tried without an answer of the weak model in the log: {trial.total.no_answer}; "
        "what it answers, what waits twice and what it costs is said of the other requests"
    )


def _reasons(effect: RuleEffect) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in effect.reasons.items())


def _of_rung(name: str, effect: RuleEffect) -> str:
    both = (effect.share_rungs_before, effect.share_rungs_after)
    before, after = (_share(shares.get(name, 0.0) if shares else None) for shares in both)
    return f"{before} to {after}"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _usd(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
