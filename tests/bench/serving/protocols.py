"""How each kind of server is spoken to: from a prompt to a call, and from its reply to an `Answer`.

Used by the load's process and, for the first answer, by the one that started the server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import grpc
import msgspec
from google.protobuf.message import Message

from turnout.serving.pb import open_inference_pb2 as v2
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.wire.route import ROUTE_METHOD

V2_METHOD = "/inference.GRPCInferenceService/ModelInfer"
V2_MODEL = "turnout"
GRPC_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # else all channels to one address share one connection
    ("grpc.enable_retries", 0),
)

Stub = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the load keeps of a reply: who answered, and the number that decided where there is one."""

    bundle: str
    p_match: float


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to ask.

    Attributes:
        encode: prompt in, what is sent out; done before the clock runs.
        connect: opens one connection; gives a callable of what `encode` gave and `timeout`.
        failures: what a call raises that was not answered.
    """

    encode: Callable[[str], bytes]
    connect: Callable[[AsyncExitStack, str], Awaitable[Stub]]
    failures: tuple[type[Exception], ...]


def _grpc(encode: Callable[[str], Message], method: str, read: Callable[[bytes], Any]) -> Protocol:
    async def connect(stack: AsyncExitStack, target: str) -> Stub:
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(target, options=GRPC_OPTIONS))
        await channel.channel_ready()
        return channel.unary_unary(method, response_deserializer=read)

    return Protocol(lambda text: encode(text).SerializeToString(), connect, (grpc.aio.AioRpcError,))


def _http(encode: Callable[[str], dict], path: str, read: Callable[[bytes], Answer]) -> Protocol:
    async def connect(stack: AsyncExitStack, target: str) -> Stub:
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(f"http://{target}", connector=connector))

        async def call(raw: bytes, timeout: float) -> Answer:  # noqa: ASYNC109  # the name that gRPC stubs have
            limit = aiohttp.ClientTimeout(total=timeout)
            async with session.post(path, data=raw, headers=_JSON, timeout=limit) as reply:
                reply.raise_for_status()
                return read(await reply.read())

        return call

    failures = (aiohttp.ClientError, TimeoutError)
    return Protocol(lambda text: msgspec.json.encode(encode(text)), connect, failures)


_JSON = {"Content-Type": "application/json", "Authorization": "Bearer sk-local"}


def _turnout() -> Protocol:
    return _grpc(lambda text: pb.RouteRequest(text=text), ROUTE_METHOD, pb.RouteResponse.FromString)


def _v2() -> Protocol:
    def encode(text: str) -> Message:
        contents = v2.InferTensorContents(bytes_contents=[text.encode()])
        tensor = v2.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1, 1], contents=contents)
        return v2.ModelInferRequest(model_name=V2_MODEL, inputs=[tensor])

    def read(raw: bytes) -> Answer:
        reply = v2.ModelInferResponse.FromString(raw)
        return Answer(reply.model_name, reply.outputs[0].contents.fp64_contents[0])

    return _grpc(encode, V2_METHOD, read)


def _json() -> Protocol:
    def read(raw: bytes) -> Answer:
        reply = msgspec.json.decode(raw)
        return Answer(reply["model"], reply["p_match"])

    return _http(lambda text: {"text": text}, "/route", read)


def _openai(model: str) -> Protocol:
    def encode(text: str) -> dict:
        return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 1}

    def read(raw: bytes) -> Answer:
        return Answer(msgspec.json.decode(raw)["model"], 0.0)

    return _http(encode, "/v1/chat/completions", read)


PROTOCOLS: dict[str, Callable[[], Protocol]] = {
    "turnout": _turnout,
    "v2": _v2,
    "json": _json,
    "routellm": lambda: _openai("router-mf-0.5"),
    "litellm": lambda: _openai("auto"),
    "upstream": lambda: _openai("gpt-4o"),
}
"""By name."""
