"""The command `turnout retrain`; heavy packages are imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from turnout.training.cli.options import (
    AllowRouted,
    AsJson,
    Columns,
    Format,
    Join,
    Labels,
    PolicyName,
    Quiet,
    Score,
    Seed,
    reading_of,
)
from turnout.training.logs.reading import AUTO, JoinBy
from turnout.training.logs.sources import find_logs

NamedLogs = Annotated[
    list[str],
    typer.Option(
        "--logs",
        help="Logs: a file, folder or pattern, again for more. What an earlier run has kept is not read as new.",
    ),
]
Champion = Annotated[
    Path, typer.Option(help="Name in the registry, such as models/NAME, whose CURRENT is the champion.")
]


def retrain(
    logs: NamedLogs,
    champion: Champion,
    kept: Annotated[
        Path | None,
        typer.Option(
            help="Parquet file of labelled rows from earlier runs, with prompts or digests as logged; made if need be."
        ),
    ] = None,
    window_days: Annotated[
        float | None, typer.Option(min=0, help="Leave out, and no longer keep, rows older than so many days.")
    ] = None,
    half_life_days: Annotated[
        float | None, typer.Option(min=0.01, help="Age in days at which a row counts half in the fit.")
    ] = None,
    policy: PolicyName = "",
    test_share: Annotated[
        float, typer.Option(min=0.05, max=0.9, help="Share of the new groups, the latest, to compare on.")
    ] = 0.4,
    min_test_rows: Annotated[int, typer.Option(min=20, help="Rows to compare on; with fewer nothing is done.")] = 1000,
    max_log_loss_rise: Annotated[
        float, typer.Option(min=0, help="Nats that the interval's upper end may reach; its mean may not rise.")
    ] = 0.01,
    max_quality_fall: Annotated[
        float | None,
        typer.Option(min=0, help="How far the mean score may fall; without it as far as the policy allows."),
    ] = None,
    max_task_fall: Annotated[
        float, typer.Option(min=0, help="Mean score that one task or language may fall, beyond chance.")
    ] = 0.05,
    task_bound: Annotated[
        list[str] | None, typer.Option("--task-bound", help="NAME=FALL for one task or language, again for more.")
    ] = None,
    max_task_log_loss_rise: Annotated[
        float, typer.Option(min=0, help="Nats that one task or language may rise, beyond chance.")
    ] = 0.05,
    max_ece_excess: Annotated[
        float, typer.Option(min=0, help="Calibration error above chance; a worse champion's may be kept.")
    ] = 0.01,
    max_latency_ms: Annotated[
        float, typer.Option(min=0, help="Milliseconds within which 95 % of the decisions must be made here.")
    ] = 25.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Learn and compare, and write nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Promote whatever the checks say; the bundle says that it was forced.")
    ] = False,
    key: Annotated[Path | None, typer.Option(help="Private key to sign the challenger with.")] = None,
    seed: Seed = 0,
    column: Columns = None,
    log_format: Format = AUTO,
    join: Join = JoinBy.PROMPT,
    score: Score = "",
    labels: Labels = None,
    allow_routed: AllowRouted = False,
    encoder: Annotated[str, typer.Option(help="Name or folder of the encoder; the champion's when empty.")] = "",
    cache: Annotated[
        bool, typer.Option(help="Keep dense vectors on disk ($TURNOUT_CACHE, else ~/.cache/turnout).")
    ] = True,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Learn from new logs, compare with the champion on rows that neither has seen, and promote what is no worse.

    For a timer: exit code 0 when the challenger was promoted and when the champion was kept, which the last line says;
    5 while there are too few new rows, or another retraining is at work. `turnout models rollback` takes it back.
    """
    from turnout.training.cli.retrain_commands import retrain_entry
    from turnout.training.encoders.embeddings import default_cache_dir
    from turnout.training.retrain.gate import Limits
    from turnout.training.retrain.pool import Aging
    from turnout.training.retrain.run import RetrainSettings

    limits = Limits(
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
        reading=reading_of(column, log_format, join, score, labels=labels, allow_routed=allow_routed),
        seed=seed,
        cache_dir=default_cache_dir() if cache else None,
        is_dry_run=dry_run,
        is_forced=force,
        signing_key=key,
    )
    retrain_entry(find_logs(logs), champion, kept, encoder, settings, quiet=quiet, as_json=as_json)


def _bounds(named: list[str] | None) -> dict[str, float]:
    found = {}
    for one in named or ():
        name, _, bound = one.rpartition("=")
        try:
            found[name] = float(bound)
        except ValueError:
            name = ""
        if not name:
            raise typer.BadParameter(f"--task-bound expects NAME=FALL, such as translation=0.1, got {one!r}")
    return found
