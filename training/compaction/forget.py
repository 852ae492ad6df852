"""Forgetting: rewrites every file that holds rows of a tenant, a session or a request, without them.

In: the store, and the spool where it is named. Out: files under the same names that hold nothing of it, and how many
rows went. What a living server still writes to can't be rewritten; the rows found there are counted.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from turnout.serving.files import write_whole
from turnout.serving.spool.check import CheckRecord, decode_check
from turnout.serving.spool.decision import DecisionRecord, decode_decision
from turnout.serving.spool.files import SEALED, seal_left_behind, spool_files
from turnout.serving.spool.framing import RecordKind, file_header, framed
from turnout.serving.spool.outcome import Outcome, decode_outcome
from turnout.serving.spool.reader import Damage, SpoolRecord, read_file
from turnout.training.compaction.store import Store, read_table, replace_table, write_table

_DRAFT = ".tmp"


@dataclass(frozen=True, slots=True)
class Whom:
    """Whose rows are to go: all given must fit. Outcomes of a request that goes, go with it.

    Attributes:
        tenant, session_id, request_id: empty for any; not all of them.
    """

    tenant: str = ""
    session_id: str = ""
    request_id: str = ""


@dataclass(frozen=True)
class _Gone:
    """Requests that go, by their ids and the tenants that they named.

    Attributes:
        requests: id and tenant; an empty tenant where the decision named none.
        ids: the ids alone.
    """

    requests: frozenset[tuple[str, str]] = frozenset()
    ids: frozenset[str] = frozenset()

    @classmethod
    def of(cls, requests: set[tuple[str, str]]) -> _Gone:
        return cls(frozenset(requests), frozenset(request_id for request_id, _ in requests))

    def holds(self, request_id: str, tenant: str | None) -> bool:
        """Whether an outcome is one of these requests; outcomes need not name the tenant."""
        if tenant:
            return (request_id, tenant) in self.requests or (request_id, "") in self.requests
        return request_id in self.ids


@dataclass(slots=True)
class Forgotten:
    """What was rewritten.

    Attributes:
        decisions, outcomes: rows and spool records that are gone.
        damaged_bytes: bytes of spool files that held no record, gone with the rewriting of their file.
        left: records in files that a living server writes to: still there.
        kept: rows gone from the store of `turnout retrain`.
        checks: verdicts that are gone, with what was kept of the answers.
    """

    decisions: int = 0
    outcomes: int = 0
    damaged_bytes: int = 0
    left: int = 0
    kept: int = 0
    checks: int = 0


def forget_kept(path: Path, whom: Whom) -> int:
    """Rewrite the rows that `turnout retrain` has kept without those of `whom`; return how many went.

    Call it inside `alone(path)`.

    Raises:
        DataRefused: the file is not there or damaged.
    """
    table = read_table(path)
    left = table.filter(pc.invert(_mask(table, whom, "id")))
    if left.num_rows < table.num_rows:
        write_table(path, left)
    return int(table.num_rows - left.num_rows)


def forget(store: Store, spool: Path | None, whom: Whom) -> Forgotten:
    """Rewrite all files without the rows of `whom`.

    Args:
        store: the compacted logs.
        spool: folder of the spool, whose sealed files are rewritten as well; None leaves it alone.
        whom: whose rows go.

    Raises:
        OSError: a file can't be read or written.
        DataRefused: a file of the store is damaged.
    """
    done = Forgotten()
    paths: list[Path] = []
    if spool is not None:
        seal_left_behind(spool)
        for draft in spool.glob(f".*{_DRAFT}"):  # of a run that was killed
            draft.unlink()
        paths = spool_files(spool)
    gone = _gone(store, paths, whom)
    # Decisions last: killed in between, the next run still finds by them the outcomes that name neither
    # tenant nor session.
    for path in store.outcome_files():
        done.outcomes += _filter(path, whom, "request_id", gone)
    for path in store.check_files():
        done.checks += _filter(path, whom, "id", gone)
    for kind in (RecordKind.OUTCOME, RecordKind.CHECK, RecordKind.DECISION):
        for path in paths:
            _rewrite_spool(path, kind, whom, gone, done)
    for path in store.decision_files():
        done.decisions += _filter(path, whom, "id", _Gone())
    return done


def _gone(store: Store, spool: list[Path], whom: Whom) -> _Gone:
    """Return request id and tenant of all decisions that go: outcomes need not name tenant or session."""
    found: set[tuple[str, str]] = set()
    for path in store.decision_files():
        table = read_table(path, ["id", "tenant", "session_id"])
        rows = table.filter(_mask(table, whom, "id")).to_pylist()
        found.update((row["id"], row["tenant"] or "") for row in rows if row["id"])
    for path in spool:
        for record in _records(path):
            decision = _decoded(record)
            if isinstance(decision, DecisionRecord) and decision.request_id and _is_meant(decision, whom):
                found.add((decision.request_id, decision.tenant))
    return _Gone.of(found)


def _mask(table: pa.Table, whom: Whom, id_column: str) -> pa.ChunkedArray:
    wanted = (("tenant", whom.tenant), ("session_id", whom.session_id), (id_column, whom.request_id))
    mask = pa.chunked_array([pa.array([True] * table.num_rows, pa.bool_())])
    for name, value in wanted:
        if value:
            mask = pc.and_(mask, pc.fill_null(pc.equal(table[name], value), fill_value=False))
    return mask


def _filter(path: Path, whom: Whom, id_column: str, gone: _Gone) -> int:
    """Rewrite a file of the store; return how many rows went."""
    table = read_table(path)
    goes = _mask(table, whom, id_column)
    if gone.ids:
        rows = table.select([id_column, "tenant"]).to_pylist()
        belongs = pa.array([gone.holds(row[id_column], row["tenant"]) for row in rows], pa.bool_())
        goes = pc.or_(goes, pa.chunked_array([belongs]))
    kept = table.filter(pc.invert(goes))
    n_gone = int(table.num_rows - kept.num_rows)
    if not n_gone:
        return 0
    if id_column == "id":
        replace_table(path, kept)
    else:
        write_table(path, kept)  # its name says that the spool file was compacted
    return n_gone


def _rewrite_spool(path: Path, kind: RecordKind, whom: Whom, requests: _Gone, done: Forgotten) -> None:
    """Rewrite a sealed file without the records of this kind that go."""
    found = list(read_file(path))
    records = [one for one in found if isinstance(one, SpoolRecord)]
    gone = {one.offset for one in records if one.kind == kind and _goes(one, whom, requests)}
    if path.suffix != SEALED:
        done.left += len(gone)
        return
    if not gone:
        return
    if kind == RecordKind.DECISION:
        done.decisions += len(gone)
    elif kind == RecordKind.CHECK:
        done.checks += len(gone)
    else:
        done.outcomes += len(gone)
    done.damaged_bytes += sum(one.n_bytes for one in found if isinstance(one, Damage))
    _write_spool(path, [one for one in records if one.offset not in gone])


def _write_spool(path: Path, records: list[SpoolRecord]) -> None:
    salt = secrets.randbits(32)
    parts = [file_header(salt)]
    offset = len(parts[0])
    for record in records:
        parts.append(framed(record.kind, record.payload, salt, offset))
        offset += len(parts[-1])
    write_whole(path, b"".join(parts), mode=0o600)


def _records(path: Path) -> list[SpoolRecord]:
    return [one for one in read_file(path) if isinstance(one, SpoolRecord)]


def _decoded(record: SpoolRecord) -> DecisionRecord | Outcome | CheckRecord | None:
    try:
        if record.kind == RecordKind.CHECK:
            return decode_check(record.payload)
        if record.kind == RecordKind.DECISION:
            return decode_decision(record.payload)
        return decode_outcome(record.payload) if record.kind == RecordKind.OUTCOME else None
    except msgspec.MsgspecError:
        return None


def _goes(record: SpoolRecord, whom: Whom, requests: _Gone) -> bool:
    one = _decoded(record)
    if one is None:
        return False
    return _is_meant(one, whom) or (not isinstance(one, DecisionRecord) and requests.holds(one.request_id, one.tenant))


def _is_meant(one: DecisionRecord | Outcome | CheckRecord, whom: Whom) -> bool:
    wanted = (
        (whom.tenant, one.tenant),
        (whom.session_id, one.session_id),
        (whom.request_id, one.request_id),
    )
    return all(not value or value == own for value, own in wanted)
