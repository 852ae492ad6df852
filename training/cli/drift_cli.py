"""The command `turnout drift`; what it needs is imported when it is called."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from turnout.training.cli.options import AsJson, Columns, Format, Quiet, Score, Seed, reading_of
from turnout.training.logs.reading import AUTO, JoinBy

Since = Annotated[
    dt.datetime | None,
    typer.Option(
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"], help="Only rows from this time on (UTC)."
    ),
]
Until = Annotated[
    dt.datetime | None,
    typer.Option(
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"], help="Only rows from before this time (UTC)."
    ),
]


def drift(
    log: Annotated[
        list[str],
        typer.Argument(
            help="Folder of compacted decision logs, its files, or any log that turnout label reads; again for more."
        ),
    ],
    bundle: Annotated[
        Path | None,
        typer.Option(help="Folder of the bundle whose baseline counts. Without it: the champion of Turnout."),
    ] = None,
    since: Since = None,
    until: Until = None,
    out: Annotated[Path | None, typer.Option(help="HTML page to write, with plots.")] = None,
    encoder: Annotated[
        str, typer.Option(help="Name or folder of the encoder inside the bundle; the name it has there when empty.")
    ] = "",
    seed: Seed = 0,
    cache: Annotated[
        bool, typer.Option(help="Keep dense vectors on disk ($TURNOUT_CACHE, else ~/.cache/turnout).")
    ] = True,
    column: Columns = None,
    log_format: Format = AUTO,
    score: Score = "",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Say whether recent traffic is still that on which a bundle was measured, measure by measure and task by task."""
    from turnout.serving.bundles.registry import find_bundle
    from turnout.training.cli.drift import drift_of_logs
    from turnout.training.drift.live import Span, named_files
    from turnout.training.encoders.embeddings import default_cache_dir

    code = drift_of_logs(
        named_files(log),
        find_bundle(bundle),
        reading_of(column, log_format, JoinBy.PROMPT, score),
        Span(_seconds(since), _seconds(until)),
        out,
        encoder,
        seed,
        default_cache_dir() if cache else None,
        quiet=quiet,
        as_json=as_json,
    )
    raise typer.Exit(code)


def _seconds(moment: dt.datetime | None) -> float | None:
    return None if moment is None else moment.replace(tzinfo=dt.UTC).timestamp()
