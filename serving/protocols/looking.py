"""What tools look at: reflection under its old and its new name, and health of all services at once.

Asked over gRPC; answered from the descriptors that this process has loaded, and from the health that is set.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

V1 = "grpc.reflection.v1"
V1_SERVICE = f"{V1}.ServerReflection"
V1_FILE = "grpc/reflection/v1/reflection.proto"
METHOD = "ServerReflectionInfo"


class ListedHealth(health.aio.HealthServicer):  # type: ignore[misc]  # grpc has no types
    """Health with `List`, which the library leaves out."""

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802  # the method's name
        """Return the status of every service."""
        del request, context
        status = health_pb2.HealthCheckResponse
        return health_pb2.HealthListResponse(
            statuses={name: status(status=known) for name, known in self._server_status.items()}
        )


def add_reflection(server: Any, services: Iterable[str]) -> None:
    """Let clients list the services and read their descriptors, by v1 and by v1alpha: some tools know but one."""
    _know_v1()
    names = (*services, reflection.SERVICE_NAME, V1_SERVICE)
    servicer = reflection.aio.ReflectionServicer(names)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )  # v1 has the messages of v1alpha, field by field
    for name in (reflection.SERVICE_NAME, V1_SERVICE):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {METHOD: handler}),))


def _know_v1() -> None:
    """Put the descriptor of v1 into the pool, made of that of v1alpha: clients ask for it as for any other."""
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(V1_FILE)
    except KeyError:
        old = reflection_pb2.DESCRIPTOR
        known = descriptor_pb2.FileDescriptorProto()
        old.CopyToProto(known)
        known.name, known.package = V1_FILE, V1
        for message in known.message_type:
            for field in (field for field in message.field if field.type_name):
                field.type_name = field.type_name.replace(old.package, V1)
        for service in known.service:
            for method in service.method:
                method.input_type = method.input_type.replace(old.package, V1)
                method.output_type = method.output_type.replace(old.package, V1)
        pool.Add(known)
