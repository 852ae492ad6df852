"""Bearer tokens: who may call what, and a tokens file that changes under a running server."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from tests.running import SERVING, health_of, server_in_loop
from turnout.serving.access.tokens import NAME, PREFIX, Token, TokensFile, new_token_lines, read_tokens
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.client import AsyncRouter, RouteItem
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.settings import SettingsRefused
from turnout.serving.wire.route import (
    DESCRIBE_MODEL_METHOD,
    ROUTE_BATCH_METHOD,
    ROUTE_METHOD,
    ROUTE_STREAM_METHOD,
    SERVICE_NAME,
)

OK, UNAUTHENTICATED, DENIED = (
    grpc.StatusCode.OK,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
)
GATEWAY, READER, SHOP = "turnout_gateway-secret", "turnout_reader-secret", "turnout_shop-secret"
ENTRIES = [
    {"name": "gateway", "secret": GATEWAY, "methods": ["*"]},
    {"name": "reader", "secret": READER, "methods": ["DescribeModel"]},
    {"name": "shop", "secret": SHOP, "methods": ["Route", "RouteBatch", "RouteStream"], "tenants": ["shop", "shop-2"]},
]


def write_tokens(path: Path, entries: list[dict[str, Any]]) -> Path:
    tables = []
    for entry in entries:
        fields = dict(entry)
        if secret := fields.pop("secret", None):
            fields["sha256"] = hashlib.sha256(secret.encode()).hexdigest()
        tables.append("[[token]]\n" + "".join(f"{key} = {value!r}\n" for key, value in fields.items()))
    path.write_text("\n".join(tables))
    return path


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return write_tokens(tmp_path / "tokens.toml", ENTRIES)


def requests() -> dict[str, bytes]:
    request = pb.RouteRequest(text="hello", tenant="shop")
    return {
        ROUTE_METHOD: request.SerializeToString(),
        ROUTE_BATCH_METHOD: pb.RouteBatchRequest(requests=[request]).SerializeToString(),
        ROUTE_STREAM_METHOD: pb.RouteStreamRequest(request=request).SerializeToString(),
        DESCRIBE_MODEL_METHOD: b"",
        f"/{SERVICE_NAME}/Teleport": b"",
    }


async def code_of(channel: Any, method: str, metadata: tuple = ()) -> grpc.StatusCode:
    raw = requests()[method]
    try:
        if method == ROUTE_STREAM_METHOD:
            async for _ in channel.stream_stream(method)(iter([raw]), metadata=metadata, timeout=60):
                pass
        else:
            await channel.unary_unary(method)(raw, metadata=metadata, timeout=60)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return OK


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def with_server(bundle: Bundle, tokens: Path, check: Callable[[Any, str], Any], **settings: Any) -> None:
    async with (
        server_in_loop(bundle, tokens=tokens, **settings) as (_, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        await check(channel, address)


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        bearer("turnout_unknown"),
        bearer(""),
        bearer(GATEWAY + "x"),
        (("authorization", GATEWAY),),
        (("authorization", f"Basic {GATEWAY}"),),
        (("token", f"Bearer {GATEWAY}"),),
        bearer(GATEWAY) + bearer(READER),
        bearer(hashlib.sha256(GATEWAY.encode()).hexdigest()),
    ],
    ids=range(9),
)
def test_no_call_without_a_known_token(bundle: Bundle, tokens: Path, metadata: tuple):
    async def check(channel: Any, _: str) -> None:
        for method in requests():
            assert await code_of(channel, method, metadata) == UNAUTHENTICATED, method

    asyncio.run(with_server(bundle, tokens, check))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer "])
def test_scheme_is_read_in_any_case(bundle: Bundle, tokens: Path, scheme: str):
    async def check(channel: Any, _: str) -> None:
        codes = [await code_of(channel, method, (("authorization", f"{scheme} {GATEWAY}"),)) for method in requests()]
        assert codes[0] is OK
        assert UNAUTHENTICATED not in codes

    asyncio.run(with_server(bundle, tokens, check))


def test_token_is_good_for_its_methods_only(bundle: Bundle, tokens: Path):
    async def check(channel: Any, _: str) -> None:
        codes = {
            token: [await code_of(channel, method, bearer(token)) for method in requests()]
            for token in (GATEWAY, READER, SHOP)
        }
        unknown = grpc.StatusCode.UNIMPLEMENTED
        assert codes[GATEWAY] == [OK, OK, OK, OK, unknown]
        assert codes[READER] == [DENIED, DENIED, DENIED, OK, DENIED]
        assert codes[SHOP] == [OK, OK, OK, DENIED, DENIED]

    asyncio.run(with_server(bundle, tokens, check))


def test_token_speaks_for_its_tenants_only_and_batch_items_fail_alone(bundle: Bundle, tokens: Path):
    async def check(_: Any, address: str) -> None:
        async with AsyncRouter(address, timeout_s=60, token=SHOP) as router:
            reasons = [
                (await router.route(text="hello", tenant=tenant)).fallback_reason
                for tenant in ("shop", "shop-2", "other", "")
            ]
            assert reasons == [None, None, "permission_denied", "permission_denied"]
            items = [RouteItem(text="hello", tenant=tenant) for tenant in ("shop", "other")]
            assert [one.fallback_reason for one in await router.route_batch(items)] == [None, "permission_denied"]
        async with AsyncRouter(address, timeout_s=60, token=GATEWAY) as router:
            assert (await router.route(text="hello", tenant="other")).fallback_reason is None

    asyncio.run(with_server(bundle, tokens, check))


def test_reports_show_the_token_and_speak_for_its_tenants_only(bundle: Bundle, tmp_path: Path):
    entries = [{"name": "shop", "secret": SHOP, "methods": ["*"], "tenants": ["shop"]}]
    tokens = write_tokens(tmp_path / "tokens.toml", entries)

    async def check() -> None:
        async with (
            server_in_loop(bundle, tokens=tokens, spool=tmp_path / "spool") as (_, address),
            AsyncRouter(address, timeout_s=60, token=SHOP) as router,
            AsyncRouter(address, timeout_s=60) as stranger,
        ):
            assert await router.report_outcome("1", timeout_s=60, tenant="shop", score=1.0)
            assert not await router.report_outcome("2", tenant="other", score=1.0)
            assert not await stranger.report_outcome("3", tenant="shop", score=1.0)
            assert (router.unreported, stranger.unreported) == ({"permission_denied": 1}, {"unauthenticated": 1})

    asyncio.run(check())


def test_calls_at_the_same_time_keep_their_own_callers(bundle: Bundle, tokens: Path):
    async def check(_: Any, address: str) -> None:
        async with (
            AsyncRouter(address, timeout_s=60, token=SHOP) as shop,
            AsyncRouter(address, timeout_s=60, token=GATEWAY) as gateway,
        ):
            calls = [router.route(text="hello", tenant="other") for router in [shop, gateway] * 40]
            reasons = [one.fallback_reason for one in await asyncio.gather(*calls)]
            assert reasons == ["permission_denied", None] * 40

    asyncio.run(with_server(bundle, tokens, check))


def test_health_is_open_and_reflection_is_not(bundle: Bundle, tokens: Path):
    async def check(_: Any, address: str) -> None:
        assert await asyncio.to_thread(health_of, address) == SERVING

        def listed(metadata: tuple) -> list[str]:
            with grpc.insecure_channel(address) as channel:
                call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                    iter([reflection_pb2.ServerReflectionRequest(list_services="")]), metadata=metadata, timeout=60
                )
                return [service.name for reply in call for service in reply.list_services_response.service]

        with pytest.raises(grpc.RpcError) as refused:
            await asyncio.to_thread(listed, ())
        assert refused.value.code() == UNAUTHENTICATED
        assert SERVICE_NAME in await asyncio.to_thread(listed, bearer(READER))

    asyncio.run(with_server(bundle, tokens, check, reflection=True))


def test_changed_file_is_taken_up_and_a_bad_one_is_refused_whole(
    bundle: Bundle, tokens: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("turnout.serving.access.tokens.LOOK_EVERY_S", 0.0)
    caplog.set_level(logging.INFO)

    async def check(channel: Any, _: str) -> None:
        async def codes() -> list[grpc.StatusCode]:
            return [await code_of(channel, ROUTE_METHOD, bearer(token)) for token in (GATEWAY, "new-secret")]

        assert await codes() == [OK, UNAUTHENTICATED]
        write_tokens(tokens, [{"name": "new", "secret": "new-secret", "methods": ["Route"]}])
        assert await codes() == [UNAUTHENTICATED, OK]
        for bad in (f"[[token]]\nname = '{GATEWAY}\n", f"[[token]]\nname = 'x'\nsha256 = '{GATEWAY}'\n", ""):
            await asyncio.to_thread(tokens.write_text, bad)
            assert await codes() == [UNAUTHENTICATED, OK]
        await asyncio.to_thread(tokens.unlink)
        assert await codes() == [UNAUTHENTICATED, OK]
        assert caplog.text.count("the tokens read last stay") >= 4
        write_tokens(tokens, ENTRIES)
        assert await codes() == [OK, UNAUTHENTICATED]

    asyncio.run(with_server(bundle, tokens, check))
    assert "secret" not in caplog.text


def test_no_secret_in_any_refusal_or_log(bundle: Bundle, tokens: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)

    said = []

    async def check(channel: Any, _: str) -> None:
        for token in (GATEWAY, READER, SHOP, "turnout_unknown-secret"):
            for method in (ROUTE_METHOD, DESCRIBE_MODEL_METHOD):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await channel.unary_unary(method)(b"\xff", metadata=bearer(token), timeout=60)
                said.append(f"{refused.value.details()} {refused.value.trailing_metadata()}")

    asyncio.run(with_server(bundle, tokens, check))
    assert len(said) == 8
    assert "secret" not in caplog.text + "".join(said)


GOOD = {"name": "a", "sha256": "0" * 64, "methods": ["Route"]}


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [GOOD | {"sha256": "my-secret"}],
        [GOOD | {"sha256": "A" * 64}],
        [GOOD | {"methods": []}],
        [GOOD | {"methods": ["my-secret"]}],
        [GOOD | {"tenants": []}],
        [GOOD | {"name": ""}],
        [GOOD | {"name": "two\nlines"}],
        [GOOD | {"name": "a\n"}],
        [GOOD | {"token": "my-secret"}],
        [GOOD, GOOD | {"sha256": "1" * 64}],
        [GOOD, GOOD | {"name": "b"}],
    ],
)
def test_bad_tokens_file_is_refused_without_quoting_it(tmp_path: Path, entries: list[dict]):
    path = write_tokens(tmp_path / "tokens.toml", entries)
    with pytest.raises(SettingsRefused, match="tokens") as refused:
        read_tokens(path)
    assert str(path) in str(refused.value)
    assert "my-secret" not in str(refused.value)


def test_tokens_file_that_anybody_can_write_to_is_refused(tokens: Path):
    tokens.chmod(0o666)
    with pytest.raises(SettingsRefused, match="chmod o-w"):
        read_tokens(tokens)


@given(raw=st.binary(max_size=200))
def test_any_bytes_are_tokens_or_refused(raw: bytes, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(raw)
    with pytest.raises(SettingsRefused):
        read_tokens(path)


@pytest.mark.parametrize("name", ["", "a b", 'a"', "a\n", "é", "a" * 101])
def test_token_name_is_plain_text(name: str):
    with pytest.raises(SettingsRefused, match="token name"):
        new_token_lines(name)


@given(name=st.from_regex(NAME, fullmatch=True))
def test_new_token_fits_its_lines(name: str):
    token, lines = new_token_lines(name)
    (entry,) = tomllib.loads(lines)["token"]
    assert entry == {"name": name, "sha256": hashlib.sha256(token.encode()).hexdigest(), "methods": ["*"]}
    assert token.startswith(PREFIX)
    assert len(token) >= len(PREFIX) + 43
    assert token not in lines
    assert Token(**entry).allows("Route")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE])
def test_failed_look_is_no_refusal_and_a_revoked_token_ends_once_the_file_is_seen(
    tokens: Path, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("turnout.serving.access.tokens.LOOK_EVERY_S", 0.0)
    fails = False

    def failing(path: Path, *words: Any, real: Any = Path.open, **more: Any) -> Any:
        if fails:
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *words, **more)

    monkeypatch.setattr(Path, "open", failing)
    told: list[str] = []
    file = TokensFile(tokens, told.append)
    write_tokens(tokens, [{"name": "new", "secret": "new-secret", "methods": ["Route"]}])
    fails = True
    assert all(file.find(GATEWAY) is not None for _ in range(3))
    assert caplog.text.count("the tokens read last stay") == 1
    fails = False
    assert file.find(GATEWAY) is None
    assert told == ["unread"] * 3 + ["ok"]


def test_file_that_is_gone_is_refused_once(tokens: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("turnout.serving.access.tokens.LOOK_EVERY_S", 0.0)
    told: list[str] = []
    file = TokensFile(tokens, told.append)
    tokens.unlink()
    assert all(file.find(GATEWAY) is not None for _ in range(3))
    assert told == ["refused"]
