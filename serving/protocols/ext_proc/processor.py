"""`envoy.service.ext_proc.v3.ExternalProcessor`: one stream of Envoy's for each HTTP request.

How a request's body comes, and so what is answered when, is Envoy's to configure: see `streams.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Any

import grpc

from turnout.serving.observe.calls import observed
from turnout.serving.observe.tracing import Tracing
from turnout.serving.pb import ext_proc_pb2 as ext
from turnout.serving.protocols.ext_proc import messages
from turnout.serving.protocols.ext_proc.deciding import Deciding
from turnout.serving.protocols.ext_proc.streams import DuplexStream, PieceByPieceStream, Stream
from turnout.serving.service.service import RouterService, deadline_of
from turnout.serving.settings import ExtProc, ServerSettings

SERVICE_NAME = "envoy.service.ext_proc.v3.ExternalProcessor"
METHOD = "Process"


class Processor:
    """Answers Envoy beside a `RouterService`: its queue, its limits, its refusals while cold or draining."""

    def __init__(self, service: RouterService, settings: ServerSettings, tracing: Tracing | None = None) -> None:
        """Take the service whose decisions to give."""
        self._service = service
        self._deciding = Deciding(service.answering, settings)
        self._max_bytes = settings.max_request_bytes
        self._rewrites = settings.ext_proc is ExtProc.REWRITE
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
        stream: Stream | None = None
        async for raw in requests:
            message = messages.read_message(raw)
            if stream is None:
                stream = self._stream_for(message, deadline_of(context))
            async for reply in stream.replies(message):
                if not message.observability_mode:
                    await context.write(reply)

    def _stream_for(self, message: Any, deadline_s: float | None) -> Stream:
        mode = messages.mode_of(message, rewrites=self._rewrites)
        kinds = {ext.FULL_DUPLEX_STREAMED: DuplexStream, ext.STREAMED: PieceByPieceStream}
        kind = Stream if message.observability_mode else kinds.get(mode, Stream)
        is_duplex = message.protocol_config.response_body_mode == ext.FULL_DUPLEX_STREAMED
        return kind(self._deciding, deadline_s, self._max_bytes, hands_responses_on=is_duplex)


def _to_bytes(reply: Any) -> bytes:
    return bytes(reply.SerializeToString())
