"""What `turnout retrain` does and prints: the comparison as a table, then what became of it in one line."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.table import Table

from turnout.serving.bundles.bundle import read_manifest
from turnout.serving.bundles.entry import Entry
from turnout.serving.bundles.registry import CURRENT, find_encoder
from turnout.serving.bundles.verdict import Check, Verdict
from turnout.serving.cli.tables import console
from turnout.serving.errors import BundleRefused
from turnout.training.encoders.encoders import load_encoder
from turnout.training.logs.stored_files import LogFile
from turnout.training.progress import Reporter
from turnout.training.retrain.run import Retrained, RetrainSettings, retrain


def retrain_entry(
    logs: Sequence[LogFile],
    champion: Path,
    kept: Path | None,
    encoder: str,
    settings: RetrainSettings,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """Retrain a name of a registry and print what came of it.

    Raises:
        BundleRefused: `champion` is no name with a version in service.
    """
    folder = champion.resolve()
    entry = Entry(folder.parent, folder.name)
    if not entry.current():
        raise BundleRefused(
            f"{champion}: no {CURRENT}; expected a name of a registry with a version in service: turnout models promote"
        )
    named = encoder or read_manifest(entry.folder / entry.current()).encoder.name
    done = retrain(logs, entry, kept, load_encoder(find_encoder(named)), settings, Reporter(quiet=quiet))
    if as_json:
        print(result_json(done))
        return
    console().print(verdict_table(done.verdict))
    print(_rows_line(done))
    print(outcome_line(done))


def verdict_table(verdict: Verdict) -> Table:
    """Return the checks for people, a line each."""
    table = Table(title=f"{verdict.rows} rows in {verdict.groups} groups, {verdict.policy}", title_justify="left")
    table.add_column("check")
    for name in ("champion", "challenger", "figure", "95 % interval", "limit"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("met")
    for check in verdict.checks:
        table.add_row(_name(check), *map(_number, (check.champion, check.challenger)), *_held(check), _said(check))
    return table


def outcome_line(done: Retrained) -> str:
    """Return what became of the challenger, in one line."""
    bundle, verdict = done.manifest.bundle_id, done.verdict
    failed = ", ".join(_name(check) for check in verdict.checks if not check.is_met)
    if done.folder is None:
        would = "would be promoted" if verdict.is_met or verdict.is_forced else f"would not be promoted: {failed}"
        return f"dry run: {bundle} {would}; nothing is written, {verdict.champion} stays in service"
    if done.is_promoted:
        return f"promoted {bundle} in place of {verdict.champion}" + (f"; forced past: {failed}" if failed else "")
    return f"kept {verdict.champion}; {bundle} did not meet: {failed}"


def _rows_line(done: Retrained) -> str:
    since = "drawn at random: not every row says when it was made"
    if done.verdict.from_s is not None and done.verdict.to_s is not None:
        since = f"of {_moment(done.verdict.from_s)} to {_moment(done.verdict.to_s)}, later than all that was learned"
    return f"{done.n_new} new and {done.n_old} kept rows; the rows compared on are {since}"


def _moment(at_s: float) -> str:
    return f"{dt.datetime.fromtimestamp(at_s, dt.UTC):%Y-%m-%dT%H:%MZ}"


def _name(check: Check) -> str:
    return f"{check.name}, worst: {check.where}" if check.where else check.name


def _held(check: Check) -> tuple[str, str, str]:
    interval = "" if check.interval is None else f"{check.interval[0]:+.4f} to {check.interval[1]:+.4f}"
    return _number(check.figure), interval, f"{check.limit:.4g}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _said(check: Check) -> str:
    return "yes" if check.is_met else "NO"


def result_json(done: Retrained) -> str:
    """Return the same for programs."""
    result = {
        "promoted": done.is_promoted,
        "dry_run": done.folder is None,
        "bundle_id": done.manifest.bundle_id,
        "bundle": None if done.folder is None else str(done.folder),
        "n_new": done.n_new,
        "n_kept": done.n_old,
        "verdict": done.verdict,
    }
    return msgspec.json.encode(result).decode()
