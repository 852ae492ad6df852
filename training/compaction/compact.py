"""Compaction: sealed files of a spool into the store of Parquet, each once, whatever is killed in between.

    sealed file -> decisions joined, verdicts, by day -> older days joined with its outcomes -> its outcomes written
                -> spool file removed

Writing its outcomes commits a spool file. Killed before that, the next run does all of it again and overwrites the
same names; killed after, it only removes the file.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from turnout.serving.files import sync_folder
from turnout.serving.spool.check import CheckRecord, decode_check
from turnout.serving.spool.decision import DecisionRecord, decode_decision
from turnout.serving.spool.files import SEALED, seal_left_behind, spool_files
from turnout.serving.spool.framing import RecordKind
from turnout.serving.spool.outcome import Outcome, decode_outcome
from turnout.serving.spool.reader import Damage, SpoolRecord, read_file
from turnout.training.compaction.checks import check_table
from turnout.training.compaction.joining import by_request, joined
from turnout.training.compaction.rows import day, decision_table, outcome_table, outcomes_of
from turnout.training.compaction.store import Store, day_of, read_table, replace_table, write_table


@dataclass(slots=True)
class Compacted:
    """What one run did.

    Attributes:
        files: spool files compacted.
        decisions: decisions written.
        outcomes: outcomes written.
        checks: verdicts written.
        outcomes_repeated: outcomes left out as their caller repeated them, word for word.
        joined_late: files of earlier runs that got outcomes.
        expired: records left out or deleted for their age.
        damages: places with damaged bytes; such files stay in the spool.
        torn_tails: files that end in the middle of a record, as a killed server leaves them.
        unknown: records that this version can't read; such files stay in the spool.
        unsealed: files that a living server still writes to; a later run takes them.
    """

    files: int = 0
    decisions: int = 0
    outcomes: int = 0
    outcomes_repeated: int = 0
    joined_late: int = 0
    expired: int = 0
    damages: int = 0
    torn_tails: int = 0
    unknown: int = 0
    unsealed: int = 0
    checks: int = 0


@dataclass(slots=True)
class _Content:
    """What one spool file holds."""

    decisions: list[DecisionRecord] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    checks: list[CheckRecord] = field(default_factory=list)
    damages: int = 0
    torn_tails: int = 0
    unknown: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether the file holds nothing that only a person could still make use of."""
        return not (self.damages or self.unknown)


def compact(spool: Path, store: Store, keep_days: int | None, today: dt.date) -> Compacted:
    """Move what sealed files hold into the store, and delete there what is too old.

    Args:
        spool: folder of the spool; files that dead servers left open are sealed first.
        store: where to.
        keep_days: days before `today` (UTC) that are kept; None keeps all.
        today: the current UTC day.

    Raises:
        OSError: a folder or file can't be read or written.
        DataRefused: a file of the store is damaged.
    """
    done = Compacted()
    oldest = dt.date.min if keep_days is None else today - dt.timedelta(days=keep_days)
    seal_left_behind(spool)
    known = pa.concat_tables([outcome_table(()), *map(read_table, store.outcome_files())], promote_options="default")
    for path in spool_files(spool):
        if path.suffix != SEALED:
            done.unsealed += 1
        elif store.outcome_file(path.stem).exists():
            _remove(path, _read(path))
        else:
            known = _compact_file(path, store, oldest, known, done)
    done.expired += expire(store, oldest)
    return done


def expire(store: Store, oldest: dt.date) -> int:
    """Delete decisions and outcomes of days before `oldest`; return how many rows went."""
    n_rows = 0
    for path in (*store.decision_files(), *store.check_files()):
        if day_of(path) < oldest:
            table = read_table(path, ["created"])
            n_rows += table.num_rows
            replace_table(path, table.slice(0, 0))
    if oldest == dt.date.min:
        return n_rows
    oldest_s = dt.datetime.combine(oldest, dt.time(), dt.UTC).timestamp()
    for path in store.outcome_files():
        table = read_table(path)
        kept = table.filter(pc.greater_equal(table["received_s"], oldest_s))
        n_rows += table.num_rows - kept.num_rows
        if kept.num_rows < table.num_rows:
            write_table(path, kept)  # also without rows: its name says that the spool file was compacted
    return n_rows


def _compact_file(path: Path, store: Store, oldest: dt.date, known: pa.Table, done: Compacted) -> pa.Table:
    """Compact one file; return the outcomes known now."""
    content = _read(path)
    outcomes = _distinct(content.outcomes)
    kept_outcomes = [one for one in outcomes if day(one.received_s) >= oldest]
    by_day: dict[dt.date, list[DecisionRecord]] = defaultdict(list)
    for decision in content.decisions:
        by_day[day(decision.decided_s)].append(decision)
    known = pa.concat_tables([known, outcome_table(kept_outcomes)])
    n_written = 0
    for date, decisions in by_day.items():
        if date >= oldest:
            write_table(store.decision_file(date, path.stem), _joined(decision_table(decisions), known))
            n_written += len(decisions)
    n_verdicts = _write_checks(store, path.stem, content.checks, oldest)
    done.joined_late += _join_late(store, path.stem, kept_outcomes, known)
    write_table(store.outcome_file(path.stem), outcome_table(kept_outcomes))
    _remove(path, content)
    done.files += 1
    done.decisions += n_written
    done.checks += n_verdicts
    done.outcomes += len(kept_outcomes)
    done.outcomes_repeated += len(content.outcomes) - len(outcomes)
    done.expired += len(content.decisions) - n_written + len(outcomes) - len(kept_outcomes)
    done.expired += len(content.checks) - n_verdicts
    done.damages += content.damages
    done.torn_tails += content.torn_tails
    done.unknown += content.unknown
    return known


def _write_checks(store: Store, stem: str, checks: list[CheckRecord], oldest: dt.date) -> int:
    """Write the verdicts of one spool file by day; return how many were."""
    by_day: dict[dt.date, list[CheckRecord]] = defaultdict(list)
    for check in checks:
        by_day[day(check.checked_s)].append(check)
    kept = {date: of_day for date, of_day in by_day.items() if date >= oldest}
    for date, of_day in kept.items():
        write_table(store.check_file(date, stem), check_table(of_day))
    return sum(map(len, kept.values()))


def _distinct(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return outcomes without those that say again what one before said: callers may repeat themselves."""
    return list({msgspec.structs.replace(one, received_s=0.0): one for one in outcomes}.values())


def _joined(decisions: pa.Table, known: pa.Table) -> pa.Table:
    own = known.filter(pc.is_in(known["request_id"], decisions["id"].combine_chunks()))
    return joined(decisions, by_request(outcomes_of(own)))


def _join_late(store: Store, stem: str, outcomes: list[Outcome], known: pa.Table) -> int:
    """Join outcomes with decisions of earlier files; return how many files changed."""
    ids = pa.array(sorted({one.request_id for one in outcomes}), pa.string())
    n_changed = 0
    for path in store.decision_files() if len(ids) else ():
        if path.stem == stem or not pc.any(pc.is_in(read_table(path, ["id"])["id"], ids)).as_py():
            continue
        table = read_table(path)
        fresh = _joined(table, known)
        if not fresh.equals(table):
            write_table(path, fresh)
            n_changed += 1
    return n_changed


def _read(path: Path) -> _Content:
    content = _Content()
    for found in read_file(path):
        if isinstance(found, Damage):
            content.torn_tails += found.is_torn_tail
            content.damages += not found.is_torn_tail
        else:
            _take(found, content)
    return content


def _take(record: SpoolRecord, content: _Content) -> None:
    try:
        if record.kind == RecordKind.DECISION:
            content.decisions.append(decode_decision(record.payload))
            return
        if record.kind == RecordKind.CHECK:
            content.checks.append(decode_check(record.payload))
            return
        if record.kind == RecordKind.OUTCOME:
            content.outcomes.append(decode_outcome(record.payload))
            return
    except msgspec.MsgspecError:
        pass
    content.unknown += 1


def _remove(path: Path, content: _Content) -> None:
    if content.is_whole:
        path.unlink()
        sync_folder(path.parent)
