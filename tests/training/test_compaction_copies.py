"""Copies of compacted logs: what changed goes there, what is gone goes, and a broken target loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.spools import compacted, decision, outcome, rows, sealed
from turnout.training.compaction.copies import Copied, copy_to
from turnout.training.compaction.forget import Whom, forget
from turnout.training.compaction.store import opened
from turnout.training.errors import DataRefused


def copied(folder: Path, target: Path) -> Copied:
    with opened(folder) as store:
        return copy_to(store, target.as_uri())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.parquet")}


def test_copies_follow_what_compaction_and_forgetting_do(tmp_path: Path):
    spool, logs, target = tmp_path / "spool", tmp_path / "logs", tmp_path / "bucket"
    sealed(spool, [decision("a", tenant="acme"), decision("b")], 1)
    compacted(spool, logs)
    assert copied(logs, target) == Copied(2, 0)
    assert contents(target) == contents(logs) != {}
    assert copied(logs, target) == Copied(0, 0)

    sealed(spool, [outcome("a"), decision("c")], 2)
    compacted(spool, logs)  # rewrites the first file with the outcome that came late
    assert copied(logs, target) == Copied(3, 0)
    assert contents(target) == contents(logs)

    with opened(logs) as store:
        forget(store, None, Whom(tenant="acme"))
        forget(store, None, Whom(request_id="b"))
    assert copied(logs, target).removed == 1
    assert contents(target) == contents(logs)
    assert [row["id"] for row in rows(target)] == ["c"]


def test_what_was_not_recorded_as_sent_is_sent_again(tmp_path: Path):
    sealed(tmp_path / "spool", [decision("a")])
    compacted(tmp_path / "spool", tmp_path / "logs")
    copied(tmp_path / "logs", tmp_path / "bucket")
    (record,) = (tmp_path / "logs").glob(".copied-*.json")
    record.write_bytes(b"{half")
    assert copied(tmp_path / "logs", tmp_path / "bucket") == Copied(2, 0)
    assert copied(tmp_path / "logs", tmp_path / "another") == Copied(2, 0)


@pytest.mark.parametrize("uri", ["nonsense://bucket/x", "file:///proc/none/such"])
def test_a_target_that_can_not_be_written_to_is_refused_by_name(tmp_path: Path, uri: str):
    sealed(tmp_path / "spool", [decision("a")])
    compacted(tmp_path / "spool", tmp_path / "logs")
    with opened(tmp_path / "logs") as store, pytest.raises(DataRefused, match=uri):
        copy_to(store, uri)
    assert len(rows(tmp_path / "logs")) == 1
