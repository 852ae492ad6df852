"""`envoy.service.ext_proc.v3.ExternalProcessor`: one stream of Envoy's for each HTTP request.

    request headers -> what they tell is kept; headers of ours that a caller forged are taken away
    request body    -> decided by the path of `Route` -> x-turnout-* set, "model" rewritten, route chosen anew
    anything else   -> unchanged

In observability mode Envoy streams the body, waits for nothing and reads no answer: the decision is made,
logged and counted, and that is all.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any

import grpc

from turnout.serving.observe.calls import observed
from turnout.serving.observe.tracing import Tracing
from turnout.serving.protocols.ext_proc import messages
from turnout.serving.protocols.ext_proc.deciding import Deciding, Told
from turnout.serving.service.service import RouterService, deadline_of
from turnout.serving.settings import ServerSettings

SERVICE_NAME = "envoy.service.ext_proc.v3.ExternalProcessor"
METHOD = "Process"


class Processor:
    """Answers Envoy beside a `RouterService`: its queue, its limits, its refusals while cold or draining."""

    def __init__(self, service: RouterService, settings: ServerSettings, tracing: Tracing | None = None) -> None:
        """Take the service whose decisions to give."""
        self._service = service
        self._deciding = Deciding(service.answering, settings)
        self._max_bytes = settings.max_request_bytes
        self._tracing = tracing

    def handlers(self) -> Any:
        """Return the generic gRPC handler; its method gets bytes, as those of `RouterService` do."""
        process = observed(METHOD, self.process, self._service.metrics, self._tracing)
        method = grpc.stream_stream_rpc_method_handler(process, response_serializer=_to_bytes)
        return grpc.method_handlers_generic_handler(SERVICE_NAME, {METHOD: method})

    async def process(self, requests: AsyncIterable[bytes], context: Any) -> None:
        """Answer one stream until Envoy ends it; every failure becomes a status of the contract."""
        await self._service.or_status(self._process(requests, context), context)

    async def _process(self, requests: AsyncIterable[bytes], context: Any) -> None:
        self._service.check_warm()
        stream = _Stream(self._deciding, deadline_of(context), self._max_bytes)
        async for raw in requests:
            message = messages.read_message(raw)
            reply = await stream.reply(message)
            if not message.observability_mode:
                await context.write(reply)


class _Stream:
    """One HTTP request on its way through Envoy.

    Of a body that is observed only, at most `max_bytes` + 1 bytes are kept: enough to know that it is too long.
    """

    def __init__(self, deciding: Deciding, deadline_s: float | None, max_bytes: int) -> None:
        self._deciding = deciding
        self._deadline_s = deadline_s
        self._room = max_bytes + 1
        self._told = Told()
        self._body = bytearray()
        self._is_decided = False

    async def reply(self, message: Any) -> Any:
        """Return the answer to one message; that of an observed one is for nobody."""
        kind = message.WhichOneof("request")
        content = getattr(message, kind)
        match kind:
            case "request_headers":
                self._told = messages.told_by(content)
                return messages.without_forgeries(content)
            case "request_body":
                # A body that may be rewritten is kept whole: it comes in one message, within gRPC's own limit.
                self._body += (
                    content.body[: self._room - len(self._body)] if message.observability_mode else content.body
                )
                # A buffered body comes in one message, and does not say that it is the end when trailers follow.
                return await self._decided(is_whole=content.end_of_stream or not message.observability_mode)
            case "request_trailers" if message.observability_mode:
                await self._decided(is_whole=True)
        return messages.unchanged(kind)

    async def _decided(self, *, is_whole: bool) -> Any:
        if self._is_decided or not is_whole:
            return messages.unchanged("request_body")
        self._is_decided = True
        verdict = await self._deciding.verdict(bytes(self._body), self._told, self._deadline_s)
        self._body.clear()
        return messages.unchanged("request_body") if verdict is None else messages.carried_out(verdict)


def _to_bytes(reply: Any) -> bytes:
    return bytes(reply.SerializeToString())
