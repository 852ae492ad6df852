"""Certificates by date, over real sockets: the start, a rotation, the metric, and what the doctor says."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from tests.certificates import Authority
from tests.running import server_in_loop
from tests.serving.test_tls import outcome, trusting
from turnout.serving.access import tls
from turnout.serving.access.tokens import new_token_lines
from turnout.serving.access.validity import validities
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.cli.doctor.access import Way, check_certificate
from turnout.serving.cli.doctor.finding import Level
from turnout.serving.cli.doctor.server import check_server
from turnout.serving.observe.metrics import ServerMetrics
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.settings import SettingsRefused
from turnout.serving.wire.route import SERVICE_NAME

AUTHORITY = Authority("authority")
GOOD = AUTHORITY.leaf("good", -1, 90)
DATES = {"expired": (-9, -1), "not yet valid": (1, 9)}


def test_dates_are_those_that_a_library_reads():
    for leaf in (GOOD, AUTHORITY.leaf("far", -20_000, 36_500)):
        (found,) = validities(leaf.cert.decode())
        expected = x509.load_pem_x509_certificate(leaf.cert)
        assert found.begins_s == expected.not_valid_before_utc.timestamp()
        assert found.ends_s == expected.not_valid_after_utc.timestamp()
    assert validities("") == []


@pytest.mark.parametrize("why", DATES)
def test_a_certificate_that_does_not_hold_is_refused_at_the_start(bundle: Bundle, tmp_path: Path, why: str):
    cert, key = AUTHORITY.leaf("bad", *DATES[why]).write(tmp_path)

    async def start() -> None:
        async with server_in_loop(bundle, tls_cert=cert, tls_key=key):
            pass

    with pytest.raises(SettingsRefused, match=why):
        asyncio.run(start())


@pytest.mark.parametrize("why", DATES)
def test_a_rotation_to_one_keeps_the_last_good_pair(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, why: str
):
    monkeypatch.setattr(tls, "LOOKS_AGAIN_S", 0.0)
    cert, key = GOOD.write(tmp_path)

    async def check() -> None:
        async with server_in_loop(bundle, tls_cert=cert, tls_key=key) as (server, address):
            registry = server.service.metrics.registry
            ends_s = registry.get_sample_value("turnout_tls_expiry_timestamp_seconds", {"kind": "server"})
            assert 89 < (ends_s - time.time()) / 86_400 < 90
            AUTHORITY.leaf("bad", *DATES[why]).write(tmp_path)
            for _ in range(2):
                assert await outcome(address, trusting(AUTHORITY)) == "ok"
            assert caplog.text.count("the last good certificate stays") == 1
            assert why in caplog.text
            refused = {"kind": "tls", "result": "refused"}
            assert registry.get_sample_value("turnout_reloads_total", refused) == 1
            AUTHORITY.leaf("soon", -90, 1).write(tmp_path)
            assert await outcome(address, trusting(AUTHORITY)) == "ok"
            assert "expires in 1.0 days" in caplog.text

    asyncio.run(check())


def test_doctor_tells_tls_token_bad_address_and_nobody_apart(bundle: Bundle, tmp_path: Path):
    cert, key = GOOD.write(tmp_path)
    ca, stranger = tmp_path / "ca.pem", tmp_path / "stranger.pem"
    ca.write_bytes(AUTHORITY.pem)
    stranger.write_bytes(Authority("stranger").pem)
    token, lines = new_token_lines("doctor")
    tokens, token_file, wrong = tmp_path / "tokens.toml", tmp_path / "token", tmp_path / "wrong"
    tokens.write_text(lines)
    token_file.write_text(token)
    wrong.write_text("turnout_wrong")

    async def found(way: Way) -> dict[str, tuple[Level, str]]:
        findings = await asyncio.to_thread(lambda: list(check_server(way)))
        return {one.check: (one.level, one.found + one.advice) for one in findings}

    async def check() -> None:
        async with server_in_loop(bundle, tls_cert=cert, tls_key=key, tokens=tokens) as (_, address):
            well = await found(Way(address, ca, token_file=token_file))
            assert {level for level, _ in well.values()} == {Level.OK}
            assert (await found(Way(address, ca)))["token"][0] is Level.WARN
            assert (await found(Way(address, ca, token_file=wrong)))["token"][0] is Level.FAIL
            assert "--tls-ca" in (await found(Way(address)))["TLS"][1]
            assert "refused" in (await found(Way(address, stranger)))["TLS"][1]
        async with server_in_loop(bundle) as (_, address):
            assert "does not speak TLS" in (await found(Way(address, ca)))["TLS"][1]
        assert "HOST:PORT" in (await found(Way("nonsense")))["server"][1]
        assert "nobody listens" in (await found(Way("127.0.0.1:1")))["server"][1]

    asyncio.run(check())
    assert check_certificate(cert).level is Level.OK
    assert check_certificate(AUTHORITY.leaf("old", -9, -1).write(tmp_path)[0]).level is Level.FAIL


def test_a_revoked_token_ends_its_open_stream(bundle: Bundle, tmp_path: Path):
    (token, lines), (_, other) = new_token_lines("first"), new_token_lines("second")
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f"{lines}\n{other}\n")

    async def check() -> None:
        async with (
            server_in_loop(bundle, tokens=tokens) as (_, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            call = channel.stream_stream(
                f"/{SERVICE_NAME}/RouteStream",
                request_serializer=pb.RouteStreamRequest.SerializeToString,
                response_deserializer=pb.RouteStreamResponse.FromString,
            )(metadata=(("authorization", f"Bearer {token}"),))
            await call.write(pb.RouteStreamRequest(request=pb.RouteRequest(text="hello")))
            assert await call.read() is not grpc.aio.EOF
            await asyncio.sleep(1.5)
            assert not call.done()
            tokens.write_text(other)
            assert await asyncio.wait_for(call.code(), 60) == grpc.StatusCode.UNAUTHENTICATED

    asyncio.run(check())


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_failed_look_is_no_refused_certificate(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cert").write_bytes(GOOD.cert)
    (tmp_path / "key").write_bytes(GOOD.key)
    files, metrics = tls.TlsFiles(tmp_path / "cert", tmp_path / "key", None), ServerMetrics()
    certificates = tls.Certificates(files, files.configuration, metrics)

    def counted(result: str) -> float:
        return metrics.registry.get_sample_value("turnout_reloads_total", {"kind": "tls", "result": result}) or 0

    with monkeypatch.context() as failing:
        for name in ("open", "read_text", "read_bytes", "stat"):

            def fails(path: Path, *_: object, **__: object) -> None:
                raise OSError(number, os.strerror(number), str(path))

            failing.setattr(Path, name, fails)
        assert certificates.changed() is None
        assert certificates.changed() is None
    assert (counted("unread"), counted("refused")) == (2, 0)
    new = AUTHORITY.leaf("new", -1, 90)
    (tmp_path / "cert").write_bytes(new.cert)
    (tmp_path / "key").write_bytes(new.key)
    assert certificates.changed() is not None
    assert counted("refused") == 0


def test_a_certificate_that_nobody_replaces_is_told_of_daily_once_it_comes_near_and_when_it_has_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    days = 0.0
    begun_s = time.time()
    monkeypatch.setattr("turnout.serving.access.tls.time.time", lambda: begun_s + days * 86_400)
    files = tls.TlsFiles(*AUTHORITY.leaf("long", -60, 30).write(tmp_path), None)
    certificates = tls.Certificates(files, object)
    said: list[tuple[int, str]] = []
    for hour in range(32 * 24):
        days = hour / 24
        caplog.clear()
        assert certificates.changed() is None
        said += [(int(days), record.getMessage()) for record in caplog.records if record.levelno >= logging.WARNING]
    assert [day for day, _ in said] == list(range(16, 32))
    assert all("expires in" in text for day, text in said if day < 30)
    assert all("expired" in text and "nobody has replaced it" in text for day, text in said if day >= 30)
    AUTHORITY.leaf("new", -1, 900).write(tmp_path)
    assert certificates.changed() is not None
    caplog.clear()
    days += 100
    assert certificates.changed() is None
    assert not caplog.records
