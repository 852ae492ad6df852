"""`turnout retrain`: the comparison as a table, then what became of the challenger in one line."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter, validators
from rich.table import Table

from turnout.serving.bundles.bundle import read_manifest
from turnout.serving.bundles.entry import Entry
from turnout.serving.bundles.registry import CURRENT, find_encoder
from turnout.serving.bundles.verdict import Check, GateVerdict
from turnout.serving.cli.options import Flag
from turnout.serving.cli.tables import console
from turnout.serving.errors import BundleRefused, UsageRefused
from turnout.training.cli.options import (
    LEARNING,
    OUTPUT,
    Cache,
    Flat,
    LearningOptions,
    ModelScores,
    NonNegative,
    OutputFormat,
    PolicyName,
    Seed,
    cache_dir,
    ladder_names,
)
from turnout.training.encoders.encoders import load_encoder
from turnout.training.logs.sources import find_logs
from turnout.training.logs.stored_files import LogFile
from turnout.training.progress import Reporter
from turnout.training.retrain.gate import GateLimits
from turnout.training.retrain.pool import Aging
from turnout.training.retrain.run import Retrained
from turnout.training.retrain.run import retrain as retrain_name
from turnout.training.retrain.settings import RetrainSettings


def retrain(
    *,
    logs: tuple[str, ...],
    champion: Path,
    kept: Path | None = None,
    window_days: Annotated[float | None, NonNegative] = None,
    half_life_days: Annotated[float | None, Parameter(validator=validators.Number(gte=0.01))] = None,
    policy: PolicyName = "",
    test_share: Annotated[float, Parameter(validator=validators.Number(gte=0.05, lte=0.9))] = 0.4,
    min_test_rows: Annotated[int, Parameter(validator=validators.Number(gte=20))] = 1000,
    max_log_loss_rise: Annotated[float, NonNegative] = 0.01,
    max_quality_fall: Annotated[float | None, NonNegative] = None,
    max_task_fall: Annotated[float, NonNegative] = 0.05,
    task_bound: tuple[str, ...] = (),
    max_task_log_loss_rise: Annotated[float, NonNegative] = 0.05,
    max_ece_excess: Annotated[float, NonNegative] = 0.01,
    max_latency_ms: Annotated[float, NonNegative] = 25.0,
    dry_run: Flag = False,
    force: Flag = False,
    lose_second_look: Flag = False,
    model_scores: ModelScores = None,
    key: Path | None = None,
    seed: Seed = 0,
    data: Annotated[LearningOptions, Flat] = LEARNING,
    encoder: str = "",
    cache: Cache = True,
    output: Annotated[OutputFormat, Flat] = OUTPUT,
) -> None:
    """Learn from new logs, compare with the champion on rows that neither has seen, and promote what is no worse.

    For a timer: exit code 0 when the challenger was promoted and when the champion was kept, which the last line says;
    5 while there are too few new rows, or another retraining is at work. `turnout models rollback` takes it back. Of a
    ladder all rungs are learned, and compared by what each policy has them answer.

    Args:
        logs: Logs: a file, folder or pattern, again for more. What an earlier run has kept is not read as new.
        champion: Name in the registry, such as models/NAME, whose CURRENT is the champion.
        kept: Parquet file of labelled rows from earlier runs, with prompts or digests as logged; made if need be.
        window_days: Leave out, and no longer keep, rows older than so many days.
        half_life_days: Age in days at which a row counts half in the fit.
        test_share: Share of the new groups, the latest, to compare on.
        min_test_rows: Rows to compare on; with fewer nothing is done.
        max_log_loss_rise: Nats that the interval's upper end may reach; its mean may not rise.
        max_quality_fall: How far the mean score may fall; without it as far as the policy allows.
        max_task_fall: Mean score that one task or language may fall, beyond chance.
        task_bound: NAME=FALL for one task or language, again for more.
        max_task_log_loss_rise: Nats that one task or language may rise, beyond chance.
        max_ece_excess: Calibration error above chance; a worse champion's may be kept.
        max_latency_ms: Milliseconds within which 95 % of the decisions must be made here.
        dry_run: Learn and compare, and write nothing.
        force: Promote whatever the checks say; the bundle says that it was forced.
        lose_second_look: Let a challenger without a second look take the place of a champion that has one.
        key: Private key to sign the challenger with.
        encoder: Name or folder of the encoder; the champion's when empty.
    """
    limits = GateLimits(
        log_loss=max_log_loss_rise,
        quality=max_quality_fall,
        task=max_task_fall,
        by_task=_bounds(task_bound),
        task_log_loss=max_task_log_loss_rise,
        ece_excess=max_ece_excess,
        latency_ms=max_latency_ms,
    )
    settings = RetrainSettings(
        policy=policy,
        limits=limits,
        test_share=test_share,
        min_test_rows=min_test_rows,
        aging=Aging(window_days, half_life_days),
        reading=data.reading,
        seed=seed,
        cache_dir=cache_dir(cache),
        is_dry_run=dry_run,
        is_forced=force,
        may_lose_second_look=lose_second_look,
        signing_key=key,
        model_scores=model_scores,
    )
    found = find_logs(logs)
    retrain_entry(found, champion, kept, encoder, settings, quiet=output.quiet, as_json=output.as_json)


def _bounds(named: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for one in named:
        name, _, bound = one.rpartition("=")
        try:
            found[name] = float(bound)
        except ValueError:
            name = ""
        if not name:
            raise UsageRefused(f"--task-bound expects NAME=FALL, such as translation=0.1, got {one!r}")
    return found


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
    manifest = read_manifest(entry.folder / entry.current())
    ladder_names(manifest, settings.model_scores)
    named = encoder or manifest.encoder.name
    done = retrain_name(logs, entry, kept, load_encoder(find_encoder(named)), settings, Reporter(quiet=quiet))
    if as_json:
        print(result_json(done))
        return
    console().print(verdict_table(done.verdict))
    print(_rows_line(done))
    print(outcome_line(done))


def verdict_table(verdict: GateVerdict) -> Table:
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
