"""Several replicas as one: clients that know all of them, or nginx in front; some die, and no caller sees it."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gates import BLOCKER, GatedModel, until
from tests.replicas import Replicas, calling, nginx_before, replicas, until_answered_by
from tests.running import ANY_PORT, lifecycle_of, server_in_loop
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.client import AsyncRouter, Router
from turnout.serving.server.running import RouterServer
from turnout.serving.settings import ServerSettings

NAMES = {f"replica-{number}/1" for number in range(3)}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory):
    with replicas(tmp_path_factory.mktemp("replicas")) as running:
        yield running


def direct(three: Replicas) -> str:
    return "ipv4:" + ",".join(three.addresses)


def restarts_unseen(three: Replicas, target: str, rounds: int, *, watch_health: bool = False) -> None:
    with calling(target, watch_health=watch_health) as called:
        until_answered_by(called, NAMES)
        for number in range(rounds):
            three.kill_and_restart(number % 3)
            until_answered_by(called, NAMES)
            assert three.drain_and_restart((number + 1) % 3) == 0
            until_answered_by(called, NAMES)
    assert called.fallbacks == {}
    assert called.answered.total() > 100


@pytest.mark.slow
def test_killed_and_drained_replicas_are_unseen_by_callers_that_know_all(three: Replicas):
    restarts_unseen(three, direct(three), rounds=1, watch_health=True)


def test_killed_and_drained_replicas_are_unseen_behind_nginx(three: Replicas, tmp_path: Path):
    with nginx_before(three.addresses, tmp_path) as address:
        restarts_unseen(three, address, rounds=1)


@pytest.mark.bench
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", ["direct", "nginx"])
def test_twenty_restarts_are_unseen_by_callers(three: Replicas, tmp_path: Path, way: str):
    if way == "direct":
        restarts_unseen(three, direct(three), rounds=10, watch_health=True)
        return
    with nginx_before(three.addresses, tmp_path) as address:
        restarts_unseen(three, address, rounds=10)


def test_nginx_without_any_replica_is_unavailable(tmp_path: Path):
    nobody = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]
    with nginx_before(nobody, tmp_path) as address, Router(address, timeout_s=60) as router:
        assert router.route(text="hello").fallback_reason == "unavailable"


def test_cold_replica_gets_no_calls(bundle: Bundle):
    async def check() -> None:
        cold = RouterServer(lifecycle_of(bundle), ServerSettings(listen=ANY_PORT))
        await cold.start()
        async with server_in_loop(bundle) as (warm, address):
            target = f"ipv4:127.0.0.1:{cold.port},{address}"
            async with AsyncRouter(target, timeout_s=60, watch_health=True) as router:
                for _ in range(40):
                    assert (await router.route(text="hello")).fallback_reason is None
            assert warm.service.model_calls == 40
            assert (
                cold.service.metrics.registry.get_sample_value(
                    "turnout_rpcs_total", {"method": "Route", "code": "UNAVAILABLE"}
                )
                is None
            )
        await cold.stop(0)

    asyncio.run(check())


def test_nobody_there_is_found_out_once_and_then_at_once():
    with Router("ipv4:127.0.0.1:1,127.0.0.1:2", timeout_s=60) as router:
        for _ in range(60):  # each attempt takes a token of the throttle
            router.route(text="hello")
        started_s = time.monotonic()
        reasons = {router.route(text="hello").fallback_reason for _ in range(60)}
        assert reasons == {"unavailable"}
        assert time.monotonic() - started_s < 17  # with four retries each would wait 0.3 s, and all of them 18


def overloaded(bundle: Bundle, pushback_ms: int, check: Callable) -> None:
    """Run a check against a server whose queue of one is full, and whose pushback is known."""
    model = GatedModel(bundle.model)

    async def run() -> None:
        gated = dataclasses.replace(bundle, model=model)
        async with (
            server_in_loop(gated, max_queue_items=1) as (server, address),
            AsyncRouter(address, timeout_s=60) as router,
        ):
            first = asyncio.create_task(router.route(text=BLOCKER))
            await until(model.at_gate.is_set)
            admission = server.service.answering.admission
            admission.service_s = pushback_ms * 2e-3
            await check(router, admission, model.gate)
            model.gate.set()
            await first

    asyncio.run(run())


def test_refused_call_comes_back_after_the_pushback_and_is_answered(bundle: Bundle):
    async def check(router: AsyncRouter, admission, gate) -> None:
        started_s = time.monotonic()
        call = asyncio.create_task(router.route(text="hello"))
        await until(lambda: admission.refused["queue"] == 1)
        gate.set()
        routed = await call
        assert routed.fallback_reason is None
        assert time.monotonic() - started_s >= 0.3
        assert admission.refused["queue"] == 1

    overloaded(bundle, 300, check)


def test_call_refused_twice_does_not_come_again(bundle: Bundle):
    async def check(router: AsyncRouter, admission, _) -> None:
        assert (await router.route(text="hello")).fallback_reason == "resource_exhausted"
        assert admission.refused["queue"] == 2

    overloaded(bundle, 10, check)
