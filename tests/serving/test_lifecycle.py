"""Bundles are swapped beside the calls that are answered; what can't be served leaves its forerunner in place."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.builders import point_to, tiny_bundle
from tests.gates import until
from tests.running import SERVING, health_of, route, server_in_loop, server_process
from turnout.serving.bundles.bundle import GRAPH, Bundle
from turnout.serving.bundles.registry import CURRENT
from turnout.serving.client import AsyncRouter
from turnout.serving.errors import BundleRefused, UnknownName
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.service.lifecycle import Lifecycle
from turnout.serving.settings import SettingsRefused, Sources
from turnout.serving.wire.route import ROUTE_METHOD


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    """Return a folder of the registry with two versions that answer differently; version 1 is current."""
    folder = tmp_path / "models" / "tiny"
    tiny_bundle(folder / "1", version="1")
    tiny_bundle(folder / "2", version="2", bias=2.0)
    point_to(folder, "1")
    return folder


@asynccontextmanager
async def serving(sources: Sources):
    lifecycle = Lifecycle(sources)
    async with server_in_loop(lifecycle) as (server, address), AsyncRouter(address, timeout_s=60) as router:
        yield lifecycle, server, router


def test_pointer_replaced_is_followed_and_each_reply_names_its_bundle(entry: Path):
    async def check() -> None:
        async with serving(Sources(bundles=(entry,))) as (lifecycle, _, router):
            before = await router.route(text="hello the word")
            watching = asyncio.create_task(lifecycle.watch(interval_s=0.02))
            point_to(entry, "2")
            await until(lambda: lifecycle.lineup.default.manifest.version == "2")
            after = await router.route(text="hello the word")
            watching.cancel()
            assert (before.bundle, after.bundle) == ("tiny/1", "tiny/2")
            assert before.p_match != after.p_match

    asyncio.run(check())


async def swapped(lifecycle: Lifecycle, entry: Path, version: str) -> None:
    """Serve a version; on a busy machine a look at the disk may seem to hang, and the next one finds it."""
    point_to(entry, version)
    async with asyncio.timeout(300):
        while lifecycle.lineup.default.manifest.version != version:
            await lifecycle.reload()


def test_swaps_under_load_lose_no_call_and_mix_no_versions(entry: Path):
    async def check() -> None:
        async with serving(Sources(bundles=(entry,), cache_items=0)) as (lifecycle, _, router):
            alone = {}
            for version in ("1", "2"):
                await swapped(lifecycle, entry, version)
                alone[f"tiny/{version}"] = (await router.route(text="hello the word")).p_match
            seen = []
            stop = asyncio.Event()

            async def call() -> None:
                while not stop.is_set():
                    seen.append(await router.route(text="hello the word"))

            callers = [asyncio.create_task(call()) for _ in range(4)]
            try:
                for swap in range(20):
                    await swapped(lifecycle, entry, "12"[swap % 2])
            finally:
                stop.set()  # else they go on for ever, since a closed router answers without waiting
                await asyncio.gather(*callers)
            assert [one.fallback_reason for one in seen if one.fallback_reason] == []
            assert {one.bundle for one in seen} == set(alone)
            assert all(one.p_match == alone[one.bundle] for one in seen)

    asyncio.run(check())


def damage(folder: Path) -> None:
    raw = bytearray((folder / GRAPH).read_bytes())
    raw[len(raw) // 2] ^= 1
    (folder / GRAPH).write_bytes(raw)


def test_bad_bundle_is_refused_and_the_old_one_serves_on(entry: Path):
    async def check() -> None:
        async with serving(Sources(bundles=(entry,))) as (lifecycle, _, router):
            damage(entry / "2")
            for version, complaint in (("2", GRAPH), ("3", "no such folder"), ("../1", "no such folder")):
                point_to(entry, version)
                reloaded = await lifecycle.reload()
                assert reloaded.loaded == ()
                assert complaint in reloaded.refused[0]
                assert (await router.route(text="hello")).bundle == "tiny/1"

    asyncio.run(check())


def test_nothing_is_loaded_again_that_did_not_change(entry: Path):
    lifecycle = Lifecycle(Sources(bundles=(entry,)))
    before = lifecycle.lineup.default.bundle
    reloaded = asyncio.run(lifecycle.reload())
    assert (reloaded.loaded, reloaded.refused) == ((), ())
    assert lifecycle.lineup.default.bundle is before


def test_files_damaged_under_a_running_server_change_nothing(entry: Path):
    async def check() -> None:
        async with serving(Sources(bundles=(entry,), cache_items=0)) as (_, _, router):
            before = await router.route(text="hello the word")
            for file in (entry / "1").iterdir():
                os.truncate(file, file.stat().st_size // 2)
            after = await router.route(text="hello the word")
            assert (before.p_match, before.bundle) == (after.p_match, after.bundle)

    asyncio.run(check())


def test_bundle_refused_at_the_start_ends_it(entry: Path):
    damage(entry / "1")
    with pytest.raises(BundleRefused, match=GRAPH):
        Lifecycle(Sources(bundles=(entry,)))


def test_hang_up_signal_reloads_a_real_server(entry: Path, tmp_path: Path):
    with server_process(entry, tmp_path / "stderr.log") as server:
        assert route(server.address, text="hello").bundle == "tiny/1"
        (entry / "1" / CURRENT).unlink(missing_ok=True)
        point_to(entry, "2")
        server.process.send_signal(signal.SIGHUP)
        until_s = time.monotonic() + 60
        while route(server.address, text="hello").bundle != "tiny/2":
            assert time.monotonic() < until_s
        assert health_of(server.address) == SERVING


def test_several_bundles_answer_by_name_and_describe_lists_them(entry: Path, tmp_path: Path):
    other = tiny_bundle(tmp_path / "other", name="other", version="7")

    async def check() -> None:
        async with serving(Sources(bundles=(entry, other))) as (lifecycle, server, router):
            assert [(await router.route(text="hello", bundle=name)).bundle for name in ("", "other", "tiny/1")] == [
                "tiny/1",
                "other/7",
                "tiny/1",
            ]
            assert (await router.route(text="hello", bundle="third")).fallback_reason == "not_found"
            described = await server.service._describe_model(
                pb.DescribeModelRequest(bundle="other").SerializeToString()
            )
            assert (described.bundle, list(described.served)) == ("other/7", ["tiny/1", "other/7"])
            with pytest.raises(UnknownName, match="tiny/1, other/7"):
                lifecycle.lineup.find("third")

    asyncio.run(check())


@pytest.mark.parametrize("wrong", [{"canary_share": 1.5}, {"shadow_share": float("nan")}, {"cache_items": -1}])
def test_impossible_source_is_refused_by_name(wrong: dict, bundle: Bundle):
    with pytest.raises(SettingsRefused, match=next(iter(wrong))):
        Sources(bundles=(bundle.folder,), **wrong)


def test_reply_of_every_rpc_carries_the_bundle(entry: Path):
    async def check() -> None:
        async with (
            server_in_loop(Lifecycle(Sources(bundles=(entry,)))) as (_, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            call = channel.unary_unary(ROUTE_METHOD, response_deserializer=pb.RouteResponse.FromString)
            reply = await call(pb.RouteRequest(text="hello").SerializeToString(), timeout=60)
            assert (reply.bundle, reply.route_propensity) == ("tiny/1", 1.0)

    asyncio.run(check())


class FailingDisk:
    """Reading a file fails with an error of the system's while `number` is one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number: int | None = None
        for name in ("read_text", "open"):
            real = getattr(Path, name)

            def failing(path: Path, *words: Any, real: Any = real, **more: Any) -> Any:
                if self.number is not None and "r" in (words[0] if words else more.get("mode", "r")):
                    raise OSError(self.number, os.strerror(self.number), str(path))
                return real(path, *words, **more)

            monkeypatch.setattr(Path, name, failing)


def counted(lifecycle: Lifecycle, result: str) -> float:
    return (
        lifecycle.metrics.registry.get_sample_value("turnout_reloads_total", {"kind": "bundle", "result": result}) or 0
    )


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ENOMEM])
def test_failed_look_is_no_refused_reload_and_the_change_is_taken_once_seen(
    entry: Path, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    disk = FailingDisk(monkeypatch)

    async def check() -> None:
        lifecycle = Lifecycle(Sources(bundles=(entry,)))
        watching = asyncio.create_task(lifecycle.watch(interval_s=0.02))
        disk.number = number
        await until(lambda: counted(lifecycle, "unread") > 3, 60)
        disk.number = None
        point_to(entry, "2")
        disk.number = number
        reloaded = await lifecycle.reload()  # asked for, and nothing can be seen
        assert (reloaded.loaded, reloaded.refused) == ((), ())
        assert reloaded.unread
        disk.number = None
        await until(lambda: lifecycle.lineup.default.manifest.version == "2", 60)
        assert counted(lifecycle, "refused") == 0
        assert not watching.done()
        watching.cancel()

    asyncio.run(check())
    said = [record for record in caplog.records if "the next look tries again" in record.getMessage()]
    assert 1 <= len(said) <= 3  # once for each cause, not at each look


def test_pointer_that_is_gone_or_forbidden_is_a_change_and_refused_once(entry: Path):
    async def check() -> None:
        lifecycle = Lifecycle(Sources(bundles=(entry,)))
        watching = asyncio.create_task(lifecycle.watch(interval_s=0.02))
        (entry / "CURRENT").unlink()
        await until(lambda: counted(lifecycle, "refused") == 1, 60)
        await asyncio.sleep(0.3)
        assert (counted(lifecycle, "refused"), counted(lifecycle, "unread")) == (1, 0)
        watching.cancel()

    asyncio.run(check())
