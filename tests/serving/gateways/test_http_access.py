"""Who reaches the HTTP port: tokens, TLS, workers on one port, and a port that is refused."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path

import aiohttp
import pytest

from tests.certificates import Authority, Leaf
from tests.http_calls import call, http_address_in, http_server, systemone
from tests.running import ANY_PORT, environment, run_to_exit, serve_command, server_process
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.errors import EXIT_PORT_TAKEN, EXIT_USAGE, how_to_install
from turnout.serving.settings import ServerSettings, SettingsRefused

AUTHORITY, STRANGER = Authority("authority"), Authority("stranger")
SERVER = AUTHORITY.leaf("server")
GATEWAY, READER, SHOP = "turnout_gateway-secret", "turnout_reader-secret", "turnout_shop-secret"


def token_table(name: str, secret: str, methods: str, more: str = "") -> str:
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return f'[[token]]\nname = "{name}"\nsha256 = "{digest}"\nmethods = {methods}\n{more}\n'


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(
        token_table("gateway", GATEWAY, '["*"]')
        + token_table("reader", READER, '["DescribeModel"]')
        + token_table("shop", SHOP, '["Route"]', 'tenants = ["shop"]')
    )
    return path


def bearer(token: str) -> dict[str, dict[str, str]]:
    return {"headers": {"Authorization": f"Bearer {token}"}}


def test_tokens_rule_over_http_as_over_grpc(bundle: Bundle, tokens: Path):
    async def check() -> None:
        async with http_server(bundle, tokens=tokens) as (_, _, http):
            body = {"text": "hello", "tenant": "shop"}
            refused = await call(http, "/v1/route", body)
            assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert (await call(http, "/v1/route", body, **bearer("turnout_unknown"))).status == 401
            assert (await call(http, "/v1/route", body, **bearer(READER))).status == 403
            assert (await call(http, "/v1/route", body, **bearer(SHOP))).status == 200
            assert (await call(http, "/v1/route", {"text": "hello"}, **bearer(SHOP))).status == 403
            assert (await call(http, "/v1/systemone", systemone("hello"), **bearer(GATEWAY))).status == 200
            assert [(await call(http, path)).status for path in ("/metrics", "/report/", "/healthz", "/readyz")] == [
                401,
                401,
                200,
                200,
            ]
            assert (await call(http, "/metrics", **bearer(READER))).status == 200
            assert (await call(http, "/report/", **bearer(SHOP))).status == 403

    asyncio.run(check())


@pytest.mark.parametrize("field", ["listen", "http"])
def test_public_address_without_tls_is_refused_by_name(field: str):
    with pytest.raises(SettingsRefused, match=f"^{field}: 0.0.0.0:8080 can be reached from other machines"):
        ServerSettings(**{field: "0.0.0.0:8080"})
    assert ServerSettings(**{field: "0.0.0.0:8080"}, insecure_public=True)


def trusting(authority: Authority, client: Leaf | None = None, folder: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.pem.decode())
    if client is not None and folder is not None:
        context.load_cert_chain(*client.write(folder))
    return context


async def outcome(http: str, context: ssl.SSLContext, scheme: str = "https") -> int | str:
    try:
        return (await call(http, "/healthz", scheme=scheme, ssl=context)).status
    except aiohttp.ClientError as error:
        return type(error).__name__


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    cert, key = SERVER.write(tmp_path / "tls")
    return {"tls_cert": cert, "tls_key": key}


def test_tls_takes_new_certificates_up_and_leaves_half_a_pair_alone(bundle: Bundle, files: dict[str, Path]):
    new = STRANGER.leaf("new")

    async def check() -> None:
        async with http_server(bundle, **files) as (_, _, http):
            assert await outcome(http, trusting(AUTHORITY)) == 200
            assert await outcome(http, trusting(STRANGER)) == "ClientConnectorCertificateError"
            assert await outcome(http, trusting(AUTHORITY), "http") != 200
            files["tls_cert"].write_bytes(new.cert)
            assert await outcome(http, trusting(AUTHORITY)) == 200
            files["tls_key"].write_bytes(new.key)
            assert await outcome(http, trusting(STRANGER)) == 200
            assert await outcome(http, trusting(AUTHORITY)) == "ClientConnectorCertificateError"

    asyncio.run(check())


def test_mutual_tls_lets_in_only_clients_of_its_authority(bundle: Bundle, files: dict[str, Path], tmp_path: Path):
    client_ca = tmp_path / "clients.pem"
    client_ca.write_bytes(STRANGER.pem)

    async def check() -> None:
        async with http_server(bundle, tls_client_ca=client_ca, **files) as (_, _, http):
            known = trusting(AUTHORITY, STRANGER.leaf("client"), tmp_path / "known")
            assert await outcome(http, known) == 200
            unknown = trusting(AUTHORITY, AUTHORITY.leaf("client"), tmp_path / "unknown")
            assert await outcome(http, unknown) != 200
            assert await outcome(http, trusting(AUTHORITY)) != 200

    asyncio.run(check())


def pids_of(http: str, n_calls: int) -> set[str]:
    """Ask for the metrics over new connections; return the workers that are seen ready in them."""
    seen: set[str] = set()
    for _ in range(n_calls):
        with urllib.request.urlopen(f"http://{http}/metrics", timeout=60) as reply:
            lines = reply.read().decode().splitlines()
        seen |= {line for line in lines if line.startswith("turnout_worker_ready") and line.endswith(" 1.0")}
    return seen


@pytest.mark.slow
def test_two_workers_share_the_port_and_drain_together(bundle_folder: Path, tmp_path: Path):
    log = tmp_path / "log"
    with server_process(bundle_folder, log, "--http", ANY_PORT, workers=2) as running:
        http = http_address_in(log)
        statuses = [asyncio.run(call(http, "/v1/route", {"text": "hello"})).status for _ in range(8)]
        assert statuses == [200] * 8
        assert len(pids_of(http, 1)) == 2, "any worker shows the metrics of all"
        taken = run_to_exit(bundle_folder, ANY_PORT, "--http", http, workers=2)
        assert (taken.returncode, taken.stdout) == (EXIT_PORT_TAKEN, "")
        running.process.send_signal(signal.SIGTERM)
        assert running.wait() == 0


def test_single_server_refuses_an_http_port_that_is_taken(bundle_folder: Path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        done = run_to_exit(bundle_folder, ANY_PORT, "--http", f"127.0.0.1:{holder.getsockname()[1]}")
    assert (done.returncode, done.stdout) == (EXIT_PORT_TAKEN, "")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_missing_extra_is_named_with_how_to_get_it(bundle_folder: Path, tmp_path: Path, workers: int):
    (tmp_path / "starlette.py").write_text("raise ModuleNotFoundError('no', name='starlette')")
    command = serve_command(bundle_folder, ANY_PORT, "--http", ANY_PORT, workers=workers)
    with_none = environment()
    with_none["PYTHONPATH"] = os.pathsep.join([str(tmp_path), with_none["PYTHONPATH"]])
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=with_none)
    assert done.returncode == EXIT_USAGE
    assert done.stderr.strip().endswith(f"http: needs starlette; {how_to_install('http')}")


def test_server_without_http_loads_nothing_of_it():
    code = "import turnout.serving.server.running, sys; print({'starlette', 'uvicorn'} & sys.modules.keys() or 'none')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.strip() == "none"
