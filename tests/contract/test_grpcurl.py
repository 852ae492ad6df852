"""Every call of grpcurl.md works for a client that knows nothing but what reflection tells it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.running import ServerProcess, server_process

COMMANDS = [
    shlex.split(line)
    for line in re.findall(
        r"^\$ grpcurl -plaintext (.*)$",
        (Path(__file__).resolve().parents[2] / "docs" / "gateways" / "grpcurl.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
]
CALLS = [words for words in COMMANDS if words[0] == "-d"]


@pytest.fixture(scope="module")
def reflecting(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("reflecting")
    with server_process(bundle_folder, folder / "log", reflection=True, spool=folder / "spool") as running:
        yield running


class Reflected:
    """A generic client: messages and methods come from the server."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self.database = ProtoReflectionDescriptorDatabase(channel)
        self._pool = descriptor_pool.DescriptorPool(self.database)

    def describe(self, service: str) -> Any:
        return self._pool.FindServiceByName(service)

    def call(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        service, _, name = path.partition("/")
        method = self.describe(service).methods_by_name[name]
        request = message_factory.GetMessageClass(method.input_type)()
        json_format.ParseDict(fields, request)
        reply = message_factory.GetMessageClass(method.output_type)
        call = self._channel.unary_unary(
            f"/{path}", request_serializer=type(request).SerializeToString, response_deserializer=reply.FromString
        )
        return json_format.MessageToDict(call(request, timeout=60))


@pytest.fixture
def client(reflecting: ServerProcess):
    with grpc.insecure_channel(reflecting.address) as channel:
        yield Reflected(channel)


def test_list_and_describe(client: Reflected):
    assert {"list", "describe"} == {words[1] for words in COMMANDS if words[0] != "-d"}
    named = set(client.database.get_services())
    assert named >= {"turnout.v1.RouterService", "grpc.health.v1.Health"}
    methods = {method.name for method in client.describe("turnout.v1.RouterService").methods}
    expected = {"Route", "RouteBatch", "RouteStream", "Check", "CheckBatch", "CheckStream"}
    assert methods == expected | {"ReportOutcome", "DescribeModel"}


@pytest.mark.parametrize(
    "words", CALLS, ids=[f"{number}-{words[-1].split('/')[-1]}" for number, words in enumerate(CALLS)]
)
def test_documented_call_is_answered(client: Reflected, words: list[str]):
    _, body, address, path = words
    assert address == "127.0.0.1:50151"
    reply = client.call(path, json.loads(body))
    expected = {
        "Route": {"tier", "model", "pMatch"},
        "RouteBatch": {"results"},
        "DescribeModel": {"bundle", "policies"},
        "ReportOutcome": set(),
        "Check": {"status"},
    }
    assert reply.keys() >= expected[path.rpartition("/")[2]]
