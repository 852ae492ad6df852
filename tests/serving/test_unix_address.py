"""A socket of this machine for an address: served and asked, taken over when left behind, refused when in use."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from tests.running import run_to_exit, server_in_loop, server_process
from turnout.serving.access.listening import PortTaken
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.client import AsyncRouter, Router
from turnout.serving.settings import ServerSettings, SettingsRefused, is_loopback, unix_path


@pytest.mark.slow
@pytest.mark.parametrize(("form", "workers"), [("unix:{}", 0), ("unix://{}", 1)])
def test_server_on_a_socket_answers_both_clients_and_takes_it_away(
    bundle_folder: Path, tmp_path: Path, form: str, workers: int
):
    path = tmp_path / "router.sock"
    with server_process(bundle_folder, tmp_path / "log", listen=form.format(path), workers=workers) as server:
        assert server.address == form.format(path)
        with Router(server.address, timeout_s=60) as router:
            assert router.route(text="hello").fallback_reason is None

        async def ask() -> str | None:
            async with AsyncRouter(server.address, timeout_s=60) as asking:
                return (await asking.route(text="hello")).fallback_reason

        assert asyncio.run(ask()) is None
        refused = run_to_exit(bundle_folder, f"unix:{path}")
        assert (refused.returncode, "taken" in refused.stderr) == (4, True)
        server.process.terminate()
        assert server.wait() == 0
    assert not path.exists()


def test_socket_that_a_killed_server_left_is_taken_over(bundle: Bundle, tmp_path: Path):
    path = tmp_path / "router.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.exists()

    async def check() -> None:
        async with server_in_loop(bundle, listen=f"unix:{path}"):
            async with AsyncRouter(f"unix:{path}", timeout_s=60) as router:
                assert (await router.route(text="hello")).fallback_reason is None
            with pytest.raises(PortTaken):
                async with server_in_loop(bundle, listen=f"unix:{path}"):
                    pass

    asyncio.run(check())


def test_what_is_no_socket_is_left_alone_and_refused(bundle: Bundle, tmp_path: Path):
    path = tmp_path / "precious"
    path.write_text("data")

    async def check(listen: str) -> None:
        async with server_in_loop(bundle, listen=listen):
            pass

    for listen in (f"unix:{path}", f"unix:{tmp_path}/none/router.sock", f"unix:{tmp_path}"):
        with pytest.raises(SettingsRefused):
            asyncio.run(check(listen))
    assert path.read_text() == "data"


@pytest.mark.parametrize("listen", ["unix:relative.sock", "unix:", "unix:/" + "x" * 107, "unix://host/path"])
def test_path_that_cannot_be_one_is_refused(listen: str):
    with pytest.raises(SettingsRefused, match="unix:/path"):
        ServerSettings(listen=listen)


def test_only_one_worker_can_have_it_and_only_grpc(bundle_folder: Path, tmp_path: Path):
    refused = run_to_exit(bundle_folder, f"unix:{tmp_path}/s", workers=2)
    assert (refused.returncode, "one worker" in refused.stderr) == (2, True)
    with pytest.raises(SettingsRefused, match="http"):
        ServerSettings(http="unix:/tmp/s")
    assert is_loopback("unix:/tmp/s")
    assert unix_path("127.0.0.1:1") is None
    assert os.sep in str(unix_path("unix:///tmp/s"))
