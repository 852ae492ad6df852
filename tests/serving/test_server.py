"""How the server starts, says that it is well, and stops."""

from __future__ import annotations

import asyncio
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.builders import BUNDLE_ID
from tests.running import (
    ANY_PORT,
    NOT_SERVING,
    SERVING,
    ServerProcess,
    health_of,
    lifecycle_of,
    route,
    run_to_exit,
    server_in_loop,
    server_process,
)
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.server.running import RouterServer
from turnout.serving.settings import ServerSettings, SettingsRefused
from turnout.serving.wire.route import ROUTE_METHOD, SERVICE_NAME

SLOW = "hello" + "?" * 20


def test_ready_line_names_the_bundle_and_the_real_port(server: ServerProcess):
    assert server.ready_line.startswith(f"turnout: serving {BUNDLE_ID} on 127.0.0.1:")
    assert int(server.address.rsplit(":", 1)[1]) > 0


@pytest.mark.parametrize("service", ["", SERVICE_NAME])
def test_health_is_serving_once_ready(server: ServerProcess, service: str):
    assert health_of(server.address, service) == SERVING


def test_health_of_an_unknown_service_is_not_found(server: ServerProcess):
    with pytest.raises(grpc.RpcError) as refused:
        health_of(server.address, "no.such.Service")
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_unknown_method_is_unimplemented(server: ServerProcess):
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"/{SERVICE_NAME}/Teleport")(b"", timeout=60)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_not_serving_and_unavailable_until_warm(bundle: Bundle):
    async def check() -> None:
        server = RouterServer(lifecycle_of(bundle), ServerSettings(listen=ANY_PORT))
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            call = channel.unary_unary(ROUTE_METHOD, request_serializer=pb.RouteRequest.SerializeToString)
            assert (await health.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(pb.RouteRequest(text="hello"), timeout=60)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            await server.warm_up()
            assert (await health.Check(health_pb2.HealthCheckRequest())).status == SERVING
            assert await call(pb.RouteRequest(text="hello"), timeout=60)
        await server.stop(0)

    asyncio.run(check())


@pytest.mark.slow
def test_draining_server_says_not_serving_and_still_answers(bundle: Bundle):
    async def check() -> None:
        async with server_in_loop(bundle, lame_duck_s=3, grace_s=1) as (server, address):
            draining = asyncio.create_task(server.drain())
            await asyncio.sleep(0.05)
            assert await asyncio.to_thread(health_of, address) == NOT_SERVING
            assert (await asyncio.to_thread(route, address, text="hello")).tier == pb.TIER_WEAK
            await draining
            assert await asyncio.to_thread(health_of, address) == NOT_SERVING
            with pytest.raises(grpc.RpcError) as refused:
                await asyncio.to_thread(route, address, text="hello")
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE

    asyncio.run(check())


def test_health_is_answered_while_the_model_is_busy(slow_bundle_folder: Path, tmp_path: Path):
    with server_process(slow_bundle_folder, tmp_path / "log") as server, ThreadPoolExecutor(1) as pool:
        health_of(server.address)
        busy = pool.submit(route, server.address, text="?" * 6000)  # a minute's work
        time.sleep(0.1)
        assert health_of(server.address) == SERVING
        assert not busy.done()
        server.process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_with_calls_in_flight_answers_all_and_exits_0(
    slow_bundle_folder: Path, tmp_path: Path, number: signal.Signals
):
    with server_process(slow_bundle_folder, tmp_path / "log") as server, ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(route, server.address, text=SLOW) for _ in range(8)]
        time.sleep(0.1)
        assert not all(call.done() for call in calls)
        server.process.send_signal(number)
        assert all(call.result().bundle == BUNDLE_ID for call in calls)
        assert server.wait() == 0


def test_second_signal_exits_long_before_the_lame_duck(slow_bundle_folder: Path, tmp_path: Path):
    with server_process(slow_bundle_folder, tmp_path / "log", lame_duck_s=300) as server, ThreadPoolExecutor(1) as pool:
        call = pool.submit(route, server.address, text="?" * 6000)
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        while health_of(server.address) != NOT_SERVING:  # two signals that nobody has read yet are one
            time.sleep(0.1)
        started = time.perf_counter()
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 128 + signal.SIGTERM
        assert time.perf_counter() - started < 60
        assert isinstance(call.exception(), grpc.RpcError)


def test_taken_port_exits_4_and_says_so(server: ServerProcess, bundle_folder: Path):
    done = run_to_exit(bundle_folder, server.address)
    assert done.returncode == 4
    assert f"{server.address} is taken by another process" in done.stderr
    assert health_of(server.address) == SERVING


def test_impossible_address_exits_2_and_says_so(bundle_folder: Path):
    done = run_to_exit(bundle_folder, "192.0.2.1:0", "--insecure-public")
    assert done.returncode == 2
    assert "can't listen on 192.0.2.1:0" in done.stderr


@pytest.mark.parametrize("listen", ["", "nonsense", "127.0.0.1:", ":50151", "127.0.0.1:65536", "127.0.0.1:-1", "h:²"])
def test_wrong_address_is_refused(listen: str):
    with pytest.raises(SettingsRefused, match="expected host:port"):
        ServerSettings(listen=listen)


@pytest.mark.parametrize(
    "settings",
    [{"grace_s": -1.0}, {"lame_duck_s": float("nan")}, {"max_request_bytes": 0}, {"max_request_bytes": 16 << 20}],
)
def test_impossible_setting_is_refused_by_name(settings: dict):
    with pytest.raises(SettingsRefused, match=next(iter(settings))):
        ServerSettings(**settings)


def listed_services(address: str) -> set[str]:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with grpc.insecure_channel(address) as channel:
        replies = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]), timeout=60)
        return {service.name for reply in replies for service in reply.list_services_response.service}


def test_reflection_lists_the_services_when_asked_for(bundle: Bundle):
    async def check() -> None:
        async with server_in_loop(bundle, reflection=True) as (_, address):
            services = await asyncio.to_thread(listed_services, address)
            assert {SERVICE_NAME, "grpc.health.v1.Health"} <= services

    asyncio.run(check())


def test_reflection_is_off_unless_asked_for(server: ServerProcess):
    with pytest.raises(grpc.RpcError) as refused:
        listed_services(server.address)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_resident_memory_stays_below_250_mb(server: ServerProcess):
    route(server.address, text="hello")
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    resident_kib = int(status.split("VmRSS:")[1].split()[0])
    assert resident_kib < 250 * 1024
