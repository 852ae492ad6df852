"""Addresses to listen on, and the folder of the lock that workers need: used, or refused with what to do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.running import run_to_exit, serve_command, started
from turnout.serving.access import listening
from turnout.serving.access.listening import held_port
from turnout.serving.client import Router
from turnout.serving.settings import SettingsRefused


def _of_another_user(folder: Path) -> None:
    folder.mkdir()
    (folder / "turnout").mkdir()
    os.chown(folder / "turnout", 12345, 12345)


def _open_to_all(folder: Path) -> None:
    folder.mkdir()
    (folder / "turnout").mkdir()
    (folder / "turnout").chmod(0o777)


def _a_file(folder: Path) -> None:
    folder.write_text("")


def _a_link(folder: Path) -> None:
    folder.mkdir()
    (folder / "elsewhere").mkdir()
    (folder / "turnout").symlink_to(folder / "elsewhere")


def _under_a_file(folder: Path) -> None:
    folder.mkdir()
    (folder / "turnout").write_text("")


RUINS: list[Callable[[Path], None]] = [_of_another_user, _open_to_all, _a_file, _a_link, _under_a_file]


@pytest.fixture(params=RUINS, ids=lambda ruin: ruin.__name__.strip("_"))
def useless(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runtime"
    request.param(folder)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


def test_useless_runtime_folder_is_said_and_another_is_used(
    useless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(listening.tempfile, "tempdir", str(tmp_path / "tmp"))
    with held_port(f"127.0.0.1:{free_port()}"):
        pass
    assert "XDG_RUNTIME_DIR" in caplog.text
    assert str(useless) in caplog.text


def test_no_folder_at_all_is_refused_with_what_to_do(useless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tmp").write_text("")
    monkeypatch.setattr(listening.tempfile, "tempdir", str(tmp_path / "tmp"))
    with pytest.raises(SettingsRefused, match="XDG_RUNTIME_DIR or TMPDIR") as refused, held_port("127.0.0.1:50999"):
        pass
    assert str(useless) in str(refused.value)
    assert refused.value.exit_code == 2


def test_lock_that_cannot_be_made_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "turnout").mkdir(mode=0o700)
    port = free_port()
    (tmp_path / "turnout" / f"port-{port}.lock").mkdir()
    with pytest.raises(SettingsRefused, match="XDG_RUNTIME_DIR or TMPDIR"), held_port(f"127.0.0.1:{port}"):
        pass


@pytest.mark.slow
def test_service_with_workers_starts_with_a_useless_runtime_folder(useless: Path, bundle_folder: Path, tmp_path: Path):
    command = serve_command(bundle_folder, f"127.0.0.1:{free_port()}", workers=2)
    with started(command, tmp_path / "log") as server, Router(server.address, timeout_s=60) as router:
        assert router.route(text="hello").fallback_reason is None
        assert "XDG_RUNTIME_DIR" in server.log.read_text()
        assert str(useless) in server.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("option", ["--listen", "--http", "--metrics"])
def test_star_for_a_host_is_refused_with_what_is_meant(bundle_folder: Path, workers: int, option: str):
    given = {"--listen": "127.0.0.1:0"} | {option: "*:50999"}
    listen = given.pop("--listen")
    words = [word for pair in given.items() for word in pair]
    refused: subprocess.CompletedProcess[str] = run_to_exit(
        bundle_folder, listen, *words, "--insecure-public", workers=workers
    )
    assert refused.returncode == 2, refused.stderr
    assert "0.0.0.0:50999" in refused.stderr
