"""`turnout spool show`: what a spool folder holds, for operators. Works beside a running server."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
from rich.table import Table

from turnout.serving.cli.options import AsJson
from turnout.serving.cli.tables import console
from turnout.serving.errors import EXIT_DATA_REFUSED, EXIT_OK
from turnout.serving.spool.files import spool_files
from turnout.serving.spool.framing import RecordKind
from turnout.serving.spool.outcome import decode_outcome
from turnout.serving.spool.reader import Damage, SpoolRecord, read_file


@dataclass(slots=True)
class Counts:
    """What was found.

    Attributes:
        files: files of the folder.
        outcomes: outcome records.
        decisions: decision records.
        unknown: records that this version of Turnout can't read.
        torn_tails: files that end in the middle of a record.
        torn_bytes: bytes in those tails.
        damages: places with damaged bytes between records, or files with a damaged header.
        damaged_bytes: bytes there.
    """

    files: int = 0
    outcomes: int = 0
    decisions: int = 0
    unknown: int = 0
    torn_tails: int = 0
    torn_bytes: int = 0
    damages: int = 0
    damaged_bytes: int = 0


def show(folder: Path, /, *, as_json: AsJson = False) -> int:
    """Count what a spool holds, or print its outcomes; exit code 1 when bytes between records are damaged.

    A torn tail is what a killed server leaves behind: nothing that was acknowledged is in it.

    Args:
        folder: Folder of a spool, also of one that is being written to.
        as_json: Print the outcomes, one line of JSON each; the counts go to stderr.
    """
    counts = Counts()
    for path in spool_files(folder):
        counts.files += 1
        for found in read_file(path):
            if isinstance(found, Damage):
                _count_damage(found, counts)
            else:
                _show_record(found, counts, as_json=as_json)
    if as_json:
        print(msgspec.json.encode(asdict(counts)).decode(), file=sys.stderr)
    else:
        console().print(_table(folder, counts))
    return EXIT_DATA_REFUSED if counts.damages else EXIT_OK


def _show_record(record: SpoolRecord, counts: Counts, *, as_json: bool) -> None:
    if record.kind == RecordKind.DECISION:
        counts.decisions += 1
        return
    try:
        outcome = decode_outcome(record.payload) if record.kind == RecordKind.OUTCOME else None
    except msgspec.MsgspecError:
        outcome = None
    if outcome is None:
        counts.unknown += 1
        return
    counts.outcomes += 1
    if as_json:
        print(msgspec.json.encode(msgspec.structs.replace(outcome, text=None)).decode())  # no answer is printed


def _count_damage(damage: Damage, counts: Counts) -> None:
    if damage.is_torn_tail:
        counts.torn_tails += 1
        counts.torn_bytes += damage.n_bytes
        return
    counts.damages += 1
    counts.damaged_bytes += damage.n_bytes
    place = f"{damage.path}: byte {damage.offset}"
    print(f"turnout: {place}: {damage.what} ({damage.n_bytes} bytes left out)", file=sys.stderr)


def _table(folder: Path, counts: Counts) -> Table:
    table = Table(title=str(folder), title_justify="left", show_header=False)
    for name, value in asdict(counts).items():
        table.add_row(name.replace("_", " "), str(value))
    return table
