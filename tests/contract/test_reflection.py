"""What tools see of a server: every service by either name of reflection, and the health of all of them."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from tests.running import NOT_SERVING, SERVING, lifecycle_of, server_in_loop
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.server.running import RouterServer
from turnout.serving.settings import ExtProc, ServerSettings

NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
OURS = {"turnout.v1.RouterService", "inference.GRPCInferenceService", "grpc.health.v1.Health"}


async def reflect(channel: Any, name: str, **asked: str) -> Any:
    """Ask one thing of reflection under this name; v1 has the messages of v1alpha on the wire."""
    call = channel.stream_stream(
        f"/{name}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    async for answer in call(iter([reflection_pb2.ServerReflectionRequest(**asked)]), timeout=60):
        return answer
    raise AssertionError("no answer")


def pool_of(answer: Any) -> descriptor_pool.DescriptorPool:
    """Return a pool that knows nothing but the files of an answer."""
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(raw)
        for raw in answer.file_descriptor_response.file_descriptor_proto
    ]
    known, pool = {file.name: file for file in files}, descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(name: str) -> None:
        if name in added:
            return
        added.add(name)
        for dependency in known[name].dependency:
            add(dependency)
        pool.Add(known[name])

    for file in files:
        add(file.name)
    return pool


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ext_proc", [ExtProc.OFF, ExtProc.HEADERS])
def test_every_service_is_listed_and_described_by_either_name(bundle: Bundle, name: str, ext_proc: ExtProc):
    async def check() -> None:
        async with (
            server_in_loop(bundle, reflection=True, ext_proc=ext_proc) as (_, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            listed = await reflect(channel, name, list_services="*")
            services = {service.name for service in listed.list_services_response.service}
            assert services >= OURS | set(NAMES)
            for service in services:
                described = await reflect(channel, name, file_containing_symbol=service)
                methods = pool_of(described).FindServiceByName(service).methods
                assert [method.input_type.fields for method in methods if method.input_type]
            unknown = await reflect(channel, name, file_containing_symbol="no.such.Service")
            assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]

    asyncio.run(check())


@pytest.mark.parametrize("name", NAMES)
def test_without_reflection_neither_name_answers(bundle: Bundle, name: str):
    async def check() -> None:
        async with (
            server_in_loop(bundle, reflection=False) as (_, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            call = channel.stream_stream(f"/{name}/ServerReflectionInfo")(timeout=60)
            assert await call.code() is grpc.StatusCode.UNIMPLEMENTED  # before anything is sent, which could fail first

    asyncio.run(check())


def test_health_lists_all_services_and_follows_them(bundle: Bundle):
    async def listed(channel: Any) -> dict[str, int]:
        reply = await health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest(), timeout=60)
        return {name: status.status for name, status in reply.statuses.items()}

    async def check() -> None:
        server = RouterServer(lifecycle_of(bundle), ServerSettings(listen="127.0.0.1:0"))
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            cold = await listed(channel)
            assert {"", "turnout.v1.RouterService", "inference.GRPCInferenceService"} <= cold.keys()
            assert set(cold.values()) == {NOT_SERVING}
            await server.warm_up()
            assert set((await listed(channel)).values()) == {SERVING}
        await server.stop(0)

    asyncio.run(check())
