"""Spools with decisions and outcomes, as a server leaves them, and what the store makes of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from turnout.serving.spool.check import CheckRecord, encode_check, packed
from turnout.serving.spool.decision import DecisionRecord, encode_decision
from turnout.serving.spool.files import SpoolFile, make_folder
from turnout.serving.spool.framing import RecordKind
from turnout.serving.spool.outcome import Outcome, encode_outcome
from turnout.training.compaction.compact import Compacted, compact
from turnout.training.compaction.store import opened, read_table

TODAY = dt.date(2026, 11, 21)
NOON_S = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC).timestamp()
DAY_S = 86_400.0


def decision(request_id: str, **fields: Any) -> DecisionRecord:
    """Return a decision for the weak model of today noon with a full prompt."""
    given = {
        "decided_s": NOON_S,
        "kept": "full",
        "digest": b"d" * 16,
        "tokens": 7,
        "route": "weak",
        "model": "gpt-4o-mini",
        "p_match": 0.95,
        "threshold": 0.9,
        "policy": "max_worse=0.01",
        "reason": "MODEL",
        "stage": "FAST",
        "bundle": "tiny/1",
        "text": f"What is {request_id}?",
    }
    return DecisionRecord(request_id=request_id, **given | fields)


def outcome(request_id: str, **fields: Any) -> Outcome:
    """Return an outcome of today, a minute past noon."""
    return Outcome(request_id=request_id, **{"received_s": NOON_S + 60, "score": 1.0} | fields)


def check(request_id: str, **fields: Any) -> CheckRecord:
    """Return a verdict of today, half a minute past noon, with the whole answer."""
    given = {
        "checked_s": NOON_S + 30,
        "kept": "full",
        "digest": b"d" * 16,
        "verdict": "accept",
        "model": "gpt-4o-mini",
        "threshold": 0.7,
        "policy": "max_worse=0.01",
        "reason": "MODEL",
        "bundle": "tiny/1",
        "head": "CHECKER",
        "p_match_checked": 0.9,
        "text": f"The answer to {request_id}.",
        "token_logprobs": packed([-0.5, -0.25]),
    }
    return CheckRecord(request_id=request_id, **given | fields)


def check_rows(out: Path) -> list[dict[str, Any]]:
    """Return all rows of verdicts, by id."""
    with opened(out) as store:
        found = [row for path in store.check_files() for row in read_table(path).to_pylist()]
    return sorted(found, key=lambda row: row["id"])


def sealed(spool: Path, records: Sequence[DecisionRecord | Outcome | CheckRecord], sequence: int = 1) -> Path:
    """Write a sealed file; return its path."""
    make_folder(spool)
    file = SpoolFile(spool, "worker-test", sequence)
    file.append([_framed(one) for one in records])
    file.seal()
    return file.path.with_suffix(".spool")


def compacted(spool: Path, out: Path, keep_days: int | None = None) -> Compacted:
    """Compact as the command does, today."""
    with opened(out, make=True) as store:
        return compact(spool, store, keep_days, TODAY)


def rows(out: Path) -> list[dict[str, Any]]:
    """Return all rows of decisions, by id."""
    with opened(out) as store:
        found = [row for path in store.decision_files() for row in read_table(path).to_pylist()]
    return sorted(found, key=lambda row: (row["id"] or "", row["created"]))


def outcome_rows(out: Path) -> list[dict[str, Any]]:
    with opened(out) as store:
        return [row for path in store.outcome_files() for row in read_table(path).to_pylist()]


def _framed(one: DecisionRecord | Outcome | CheckRecord) -> tuple[int, bytes]:
    if isinstance(one, CheckRecord):
        return RecordKind.CHECK, encode_check(one)
    if isinstance(one, DecisionRecord):
        return RecordKind.DECISION, encode_decision(one)
    return RecordKind.OUTCOME, encode_outcome(one)
