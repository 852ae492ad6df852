"""The commands of `turnout logs`; pyarrow is imported when one of them is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

logs_app = typer.Typer(help="Compact the decisions of a server for training, or forget some.", no_args_is_help=True)
CopyTo = Annotated[
    str,
    typer.Option(
        help="Object store kept in line with the folder, such as s3://bucket/prefix; credentials from the environment."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")]


@logs_app.command()
def compact(
    spool: Annotated[Path, typer.Argument(help="Folder of a server's spool; it may be running.")],
    out: Annotated[Path, typer.Option(help="Folder to write Parquet to: decisions/day=.../, outcomes/.")],
    keep_days: Annotated[
        int | None, typer.Option(min=1, help="Delete what is older than so many days; without it all is kept.")
    ] = None,
    copy_to: CopyTo = "",
    as_json: AsJson = False,
) -> None:
    """Move sealed files of a spool into Parquet, decisions joined with their outcomes; run it from a timer.

    Files that a server still writes to are left for the next run. Killed at any moment, the next run goes on.
    """
    from turnout.training.cli.compaction import compact_logs

    raise typer.Exit(compact_logs(spool, out, keep_days, copy_to, as_json=as_json))


@logs_app.command()
def forget(
    folder: Annotated[Path, typer.Argument(help="Folder that turnout logs compact wrote.")],
    tenant: Annotated[str, typer.Option(help="Rows of this tenant.")] = "",
    session: Annotated[str, typer.Option(help="Rows of this session.")] = "",
    request_id: Annotated[str, typer.Option("--id", help="Rows of this request.")] = "",
    spool: Annotated[
        Path | None, typer.Option(help="Folder of the spool, to rewrite its sealed files as well.")
    ] = None,
    kept: Annotated[
        Path | None, typer.Option(help="File of rows that turnout retrain has kept, to rewrite it as well.")
    ] = None,
    copy_to: CopyTo = "",
    as_json: AsJson = False,
) -> None:
    """Rewrite all files without the rows that fit every option given, and print how many went.

    Exit code 1 while a running server's open file still holds some: run it again once that is sealed.
    """
    from turnout.training.cli.compaction import forget_rows
    from turnout.training.compaction.forget import Whom

    raise typer.Exit(forget_rows(folder, spool, Whom(tenant, session, request_id), kept, copy_to, as_json=as_json))
