"""`turnout logs`: the decisions of a server compacted for training, or some of them forgotten."""

from __future__ import annotations

import contextlib
import datetime as dt
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter
from rich.table import Table

from turnout.serving.cli.options import AsJson, AtLeastOne
from turnout.serving.cli.tables import console
from turnout.serving.errors import EXIT_DATA_REFUSED, EXIT_OK
from turnout.training.compaction.compact import compact as compact_spool
from turnout.training.compaction.copies import copy_to as bring_in_line
from turnout.training.compaction.forget import Whom, forget_kept
from turnout.training.compaction.forget import forget as forget_whom
from turnout.training.compaction.store import Store, opened
from turnout.training.errors import DataRefused
from turnout.training.files import alone

CopyTo = Annotated[
    str,
    Parameter(
        help="Object store kept in line with the folder, such as s3://bucket/prefix; credentials from the environment."
    ),
]


def compact(
    spool: Path,
    /,
    *,
    out: Path,
    keep_days: AtLeastOne | None = None,
    copy_to: CopyTo = "",
    as_json: AsJson = False,
) -> int:
    """Move sealed files of a spool into Parquet, decisions joined with their outcomes; run it from a timer.

    Files that a server still writes to are left for the next run. Killed at any moment, the next run goes on.

    Args:
        spool: Folder of a server's spool; it may be running.
        out: Folder to write Parquet to: decisions/day=.../, outcomes/.
        keep_days: Delete what is older than so many days; without it all is kept.
    """
    return compact_logs(spool, out, keep_days, copy_to, as_json=as_json)


def forget(
    folder: Path,
    /,
    *,
    tenant: str = "",
    session: str = "",
    request_id: Annotated[str, Parameter(name="--id")] = "",
    spool: Path | None = None,
    kept: Path | None = None,
    copy_to: CopyTo = "",
    as_json: AsJson = False,
) -> int:
    """Rewrite all files without the rows that fit every option given, and print how many went.

    Exit code 1 while a running server's open file still holds some: run it again once that is sealed.

    Args:
        folder: Folder that turnout logs compact wrote.
        tenant: Rows of this tenant.
        session: Rows of this session.
        request_id: Rows of this request.
        spool: Folder of the spool, to rewrite its sealed files as well.
        kept: File of rows that turnout retrain has kept, to rewrite it as well.
    """
    return forget_rows(folder, spool, Whom(tenant, session, request_id), kept, copy_to, as_json=as_json)


def compact_logs(spool: Path, out: Path, keep_days: int | None, copies: str, *, as_json: bool) -> int:
    """Compact a spool into a store, print the counts, and return the exit code: 1 when bytes were damaged.

    Raises:
        DataRefused: the spool is not there, another process is at work on the store, or the copies can't be written.
    """
    _check_folder(spool)
    with opened(out, make=True) as store:
        done = compact_spool(spool, store, keep_days, dt.datetime.now(dt.UTC).date())
        sent = _copied(store, copies)
    _print(str(out), asdict(done) | sent, as_json=as_json)
    return EXIT_DATA_REFUSED if done.damages or done.unknown else EXIT_OK


def forget_rows(folder: Path, spool: Path | None, whom: Whom, kept: Path | None, copies: str, *, as_json: bool) -> int:
    """Forget rows, print the counts, and return the exit code: 1 when a living server's file still holds some.

    Raises:
        DataRefused: nobody is named, a folder is not there, another process is at work on the store, or the copies
            can't be written.
        RetrainUnderWay: a retraining is about to write `kept`; nothing is forgotten then.
    """
    if whom == Whom():
        raise DataRefused("forget whom? give at least one of --tenant, --session, --id")
    if spool is not None:
        _check_folder(spool)
    with contextlib.ExitStack() as held:
        if kept is not None:  # first, and until the end: a retraining that has read the rows would keep them again
            held.enter_context(alone(kept))
        store = held.enter_context(opened(folder))
        n_kept = 0 if kept is None else forget_kept(kept, whom)
        done = forget_whom(store, spool, whom)
        done.kept = n_kept
        sent = _copied(store, copies)
    _print(str(folder), asdict(done) | sent, as_json=as_json)
    return EXIT_DATA_REFUSED if done.left else EXIT_OK


def _copied(store: Store, copies: str) -> dict[str, int]:
    """Bring the copies in line, where there are to be any; return the counts."""
    return asdict(bring_in_line(store, copies)) if copies else {}


def _check_folder(spool: Path) -> None:
    if not spool.is_dir():
        raise DataRefused(f"{spool}: no such folder; expected the one of turnout serve --spool")


def _print(title: str, counts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(counts).decode())
        return
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in counts.items():
        table.add_row(name.replace("_", " "), str(value))
    console().print(table)
