"""TLS and mutual TLS over a socket: who gets in, who does not, and new certificates without a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.certificates import Authority
from tests.running import server_in_loop, server_process
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.client import AsyncRouter, Router
from turnout.serving.settings import ServerSettings, SettingsRefused

AUTHORITY, STRANGER = Authority("authority"), Authority("stranger")
SERVER = AUTHORITY.leaf("server")


def trusting(authority: Authority, client: Any = None) -> grpc.ChannelCredentials:
    key, cert = (client.key, client.cert) if client else (None, None)
    return grpc.ssl_channel_credentials(authority.pem, key, cert)


async def outcome(address: str, credentials: grpc.ChannelCredentials | None) -> str:
    """Return `ok` or why a call over a connection of its own failed."""
    async with AsyncRouter(address, timeout_s=60, credentials=credentials) as router:
        return (await router.route(text="hello")).fallback_reason or "ok"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    cert, key = SERVER.write(tmp_path / "tls")
    return {"tls_cert": cert, "tls_key": key}


def test_tls_lets_in_who_trusts_it_and_neither_plain_text_nor_strangers(bundle: Bundle, files: dict[str, Path]):
    async def check() -> None:
        async with server_in_loop(bundle, **files) as (_, address):
            assert await outcome(address, trusting(AUTHORITY)) == "ok"
            assert await outcome(address, None) == "unavailable"
            assert await outcome(address, trusting(STRANGER)) == "unavailable"

    asyncio.run(check())


def test_mutual_tls_lets_in_only_clients_of_its_authority(bundle: Bundle, files: dict[str, Path], tmp_path: Path):
    client_ca = tmp_path / "clients.pem"
    client_ca.write_bytes(STRANGER.pem)

    async def check() -> None:
        async with server_in_loop(bundle, tls_client_ca=client_ca, **files) as (_, address):
            assert await outcome(address, trusting(AUTHORITY, STRANGER.leaf("client"))) == "ok"
            assert await outcome(address, trusting(AUTHORITY)) == "unavailable"
            assert await outcome(address, trusting(AUTHORITY, AUTHORITY.leaf("client"))) == "unavailable"

    asyncio.run(check())


def test_new_certificate_is_taken_up_and_half_a_pair_is_not(
    bundle: Bundle, files: dict[str, Path], caplog: pytest.LogCaptureFixture
):
    new = STRANGER.leaf("new")

    async def check() -> None:
        async with (
            server_in_loop(bundle, **files) as (_, address),
            AsyncRouter(address, timeout_s=60, credentials=trusting(AUTHORITY)) as open_before,
        ):
            assert (await open_before.route(text="hello")).fallback_reason is None
            files["tls_cert"].write_bytes(new.cert)
            assert await outcome(address, trusting(AUTHORITY)) == "ok"
            assert "the last good certificate stays" in caplog.text
            files["tls_key"].write_bytes(new.key)
            assert await outcome(address, trusting(STRANGER)) == "ok"
            assert await outcome(address, trusting(AUTHORITY)) == "unavailable"
            assert (await open_before.route(text="hello")).fallback_reason is None
            files["tls_cert"].unlink()
            assert await outcome(address, trusting(STRANGER)) == "ok"

    asyncio.run(check())


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_service_speaks_tls_with_any_number_of_workers(
    bundle_folder: Path, files: dict[str, Path], tmp_path: Path, workers: int
):
    options = ("--tls-cert", files["tls_cert"], "--tls-key", files["tls_key"])
    with (
        server_process(bundle_folder, tmp_path / "log", *options, workers=workers) as server,
        Router(server.address, timeout_s=60, credentials=trusting(AUTHORITY)) as router,
    ):
        assert router.route(text="hello").fallback_reason is None
        assert len(router.route_batch([])) == 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"tls_cert": Path("a")}, "expected both or none"),
        ({"tls_key": Path("a")}, "expected both or none"),
        ({"tls_client_ca": Path("a")}, "expected tls_cert and tls_key"),
        ({"listen": "0.0.0.0:0"}, "others can read prompts on the way"),
        ({"listen": "[::]:0"}, "insecure_public"),
        ({"listen": "router.example:0"}, "insecure_public"),
        ({"listen": "0.0.0.0:0", "tokens": Path("a")}, "prompts and tokens"),
    ],
)
def test_unsafe_or_useless_combination_is_refused(settings: dict, says: str):
    with pytest.raises(SettingsRefused, match=says):
        ServerSettings(**settings)


@pytest.mark.parametrize("settings", [{"insecure_public": True}, {"tls_cert": Path("a"), "tls_key": Path("b")}])
def test_public_address_is_fine_with_tls_or_on_request(settings: dict):
    assert ServerSettings(listen="0.0.0.0:0", **settings).listen == "0.0.0.0:0"


def test_files_that_are_no_pair_are_refused_at_the_start(bundle: Bundle, files: dict[str, Path]):
    async def start() -> None:
        async with server_in_loop(bundle, **files):
            pass

    for name, content in (
        ("tls_key", AUTHORITY.leaf("other").key),
        ("tls_key", b"secret nonsense"),
        ("tls_cert", b""),
        ("tls_cert", None),
    ):
        SERVER.write(files["tls_cert"].parent)
        files[name].unlink() if content is None else files[name].write_bytes(content)
        with pytest.raises(SettingsRefused) as refused:
            asyncio.run(start())
        assert str(files[name]) in str(refused.value)
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["tls_cert", "tls_key", "tls_client_ca"])
def test_file_that_anybody_may_write_to_is_refused_at_the_start(
    bundle: Bundle, files: dict[str, Path], tmp_path: Path, name: str
):
    files["tls_client_ca"] = tmp_path / "clients.pem"
    files["tls_client_ca"].write_bytes(STRANGER.pem)
    files[name].chmod(0o646)

    async def start() -> None:
        async with server_in_loop(bundle, **files):
            pass

    with pytest.raises(SettingsRefused, match=r"anybody can write to it; chmod o-w") as refused:
        asyncio.run(start())
    assert str(files[name]) in str(refused.value)
