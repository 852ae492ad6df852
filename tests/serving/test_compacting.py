"""Compaction that the server starts itself: once for newly sealed files, one process at a time."""

from __future__ import annotations

import fcntl
import logging
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.running import route, server_process
from tests.training.spools import decision, rows, sealed
from turnout.serving.server.compacting import LOCK, Compacting
from turnout.serving.settings import ServerSettings, SettingsRefused


def compacting(folder: Path) -> Compacting:
    return Compacting(ServerSettings(spool=folder / "spool", compact_to=folder / "logs", compact_keep_days=30_000))


def test_sealed_files_are_compacted_once_and_damage_starts_no_further_run(tmp_path: Path):
    own = compacting(tmp_path)
    own.run_if_new()
    assert own.n_runs == 0
    sealed(tmp_path / "spool", [decision("a")], 1)
    damaged = sealed(tmp_path / "spool", [decision("b"), decision("c")], 2)
    raw = bytearray(damaged.read_bytes())
    raw[40] ^= 1
    damaged.write_bytes(raw)
    own.run_if_new()
    own.run_if_new()
    assert own.n_runs == 1
    assert [row["id"] for row in rows(tmp_path / "logs")] == ["a", "c"]
    assert list((tmp_path / "spool").glob("*.spool")) == [damaged]


class SealedMeanwhile(Compacting):
    """Beside it a worker seals a file when the process of the first run has looked into the spool."""

    def _run(self) -> None:
        super()._run()
        if self.n_runs == 1:
            sealed(self._spool, [decision("late")], 2)


@pytest.mark.slow
def test_a_file_sealed_during_a_run_starts_the_next_one(tmp_path: Path):
    sealed(tmp_path / "spool", [decision("a")], 1)
    own = SealedMeanwhile(ServerSettings(spool=tmp_path / "spool", compact_to=tmp_path / "logs"))
    own.run_if_new()
    own.run_if_new()
    assert own.n_runs == 2
    assert [row["id"] for row in rows(tmp_path / "logs")] == ["a", "late"]
    assert not list((tmp_path / "spool").glob("*.spool"))


def test_only_one_process_at_a_time_is_started(tmp_path: Path):
    sealed(tmp_path / "spool", [decision("a")])
    own = compacting(tmp_path)
    with (tmp_path / "spool" / LOCK).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        own.run_if_new()
    assert own.n_runs == 0
    assert list((tmp_path / "spool").glob("*.spool"))


def test_a_run_that_fails_is_logged_and_the_spool_keeps_all(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = sealed(tmp_path / "spool", [decision("a")])
    (tmp_path / "logs").write_text("a file where a folder should be")
    with caplog.at_level(logging.ERROR):
        compacting(tmp_path).run_if_new()
    assert "compaction ended with exit code" in caplog.text
    assert path.exists()


@pytest.mark.slow
def test_server_compacts_what_it_seals(bundle_folder: Path, tmp_path: Path):
    options = ("--log-decisions", "full", "--compact-to", tmp_path / "logs", "--spool-max-age-s", 0.1)
    with server_process(bundle_folder, tmp_path / "stderr.log", *options, spool=tmp_path / "spool") as server:
        for number in range(3):
            route(server.address, text="hello", request_id=f"r{number}")
        deadline_s = time.monotonic() + 60
        while len(ids_below(tmp_path / "logs")) < 3:
            assert time.monotonic() < deadline_s, server.log.read_text()
            time.sleep(0.2)
    assert sorted(ids_below(tmp_path / "logs")) == ["r0", "r1", "r2"]


def ids_below(folder: Path) -> list[str]:
    """Return the ids of all decisions, whoever is at work on the folder."""
    tables = [pq.read_table(path, columns=["id"]) for path in folder.glob("decisions/*/*.parquet")]
    return [name for table in tables for name in table["id"].to_pylist()]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"compact_to": Path("x")}, "compact_to"),
        ({"spool": Path("x"), "compact_keep_days": 3}, "compact_keep_days"),
        ({"spool": Path("x"), "compact_to": Path("y"), "compact_keep_days": 0}, "compact_keep_days"),
    ],
)
def test_settings_that_can_not_work_are_refused(settings: dict, named: str):
    with pytest.raises(SettingsRefused, match=named):
        Compacting(ServerSettings(**settings))
