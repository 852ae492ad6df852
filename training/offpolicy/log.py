"""The decision log as a table: the first step of off-policy estimation and of `turnout savings`.

Comes in: a folder that `turnout logs compact` wrote, Parquet files of one, or the spool of a server. Goes out: one
table of decisions joined with their outcomes and verdicts, whichever of them it was. A single file of decisions has no
verdicts beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from turnout.serving.decision.routes import Route
from turnout.serving.spool.check import CheckRecord, decode_check
from turnout.serving.spool.decision import DecisionRecord, decode_decision
from turnout.serving.spool.files import spool_files
from turnout.serving.spool.framing import RecordKind
from turnout.serving.spool.outcome import Outcome, decode_outcome
from turnout.serving.spool.reader import Damage, read_spool
from turnout.training.compaction.joining import by_request, joined
from turnout.training.compaction.rows import DECISIONS, decision_table
from turnout.training.compaction.store import PARQUET, Store, read_table
from turnout.training.errors import DataRefused
from turnout.training.offpolicy.verdicts import stored_verdicts, verdicts_of, with_verdicts

PROMPT = ("prompt", "prompt_kept", "prompt_turns", "prompt_images", "prompt_tools", "prompt_wants_json")
FEATURES = ("lexical_buckets", "lexical_counts", "structural", "feature_schema")
NEEDED = frozenset({"created", "route", "model", "reason", "route_propensity"})


def read_decisions(log: Path, *, with_texts: bool = False) -> pa.Table:
    """Return all decisions of a log, in the order of its files, with the columns of `VERDICTS`.

    Columns that a file lacks are null.

    Args:
        log: folder of compacted logs, one of their files or folders, or a spool.
        with_texts: whether to read prompts and checked answers as well, where they were kept.

    Raises:
        DataRefused: there is no decision, or a file is no decision log.
    """
    wanted = [name for name in DECISIONS.names if name not in FEATURES and (with_texts or name not in PROMPT)]
    paths = _parquet_files(log)
    if paths:
        table = pa.concat_tables([_read(path, wanted) for path in paths])
        verdicts = stored_verdicts(log)
    elif log.is_dir() and spool_files(log):
        table, verdicts = _from_spool(log, wanted)
    else:
        raise DataRefused(
            f"{log}: no decision log; expected the folder of turnout logs compact, a Parquet file of it, or a spool"
        )
    if not table.num_rows:
        raise DataRefused(f"{log}: no decision; turn the log on with turnout serve --spool FOLDER --log-decisions ...")
    return _with_other_models(with_verdicts(table, verdicts, with_answers=with_texts))


def _with_other_models(table: pa.Table) -> pa.Table:
    """Fill `other_model` where a log of before lacks it: the model that most requests of the other tier went to."""
    rows = table.select(["route", "model", "other_model"]).to_pylist()
    seen = {route: Counter(row["model"] for row in rows if row["route"] == route) for route in Route}
    usual = {route: seen[route].most_common(1)[0][0] if seen[route] else None for route in Route}
    filled = [row["other_model"] or usual[Route(row["route"]).other] for row in rows]
    index = table.schema.get_field_index("other_model")
    return table.set_column(index, "other_model", pa.array(filled, pa.string()))


def _parquet_files(log: Path) -> list[Path]:
    if log.is_file():
        return [log]
    return Store(log).decision_files() or sorted(log.glob(f"*{PARQUET}"))


def _read(path: Path, wanted: Sequence[str]) -> pa.Table:
    table = read_table(path, list(wanted))  # of those that it has
    if missing := sorted(NEEDED - set(table.column_names)):
        raise DataRefused(f"{path}: no decision log: expected a column {missing[0]}; give one of turnout logs compact")
    columns = [
        table[name].cast(DECISIONS.field(name).type)
        if name in table.column_names
        else pa.nulls(table.num_rows, DECISIONS.field(name).type)
        for name in wanted
    ]
    return pa.table(columns, names=list(wanted))


def _from_spool(folder: Path, wanted: Sequence[str]) -> tuple[pa.Table, pa.Table]:
    decisions: list[DecisionRecord] = []
    outcomes: list[Outcome] = []
    checks: list[CheckRecord] = []
    for found in read_spool(folder):
        if isinstance(found, Damage):  # turnout spool show says where
            continue
        try:
            if found.kind == RecordKind.DECISION:
                decisions.append(decode_decision(found.payload))
            elif found.kind == RecordKind.OUTCOME:
                outcomes.append(decode_outcome(found.payload))
            elif found.kind == RecordKind.CHECK:
                checks.append(decode_check(found.payload))
        except msgspec.MsgspecError:  # of a later version
            continue
    return _joined(decisions, outcomes).select(list(wanted)), verdicts_of(checks)


def _joined(decisions: Sequence[DecisionRecord], outcomes: Iterable[Outcome]) -> pa.Table:
    return joined(decision_table(decisions), by_request(outcomes))
