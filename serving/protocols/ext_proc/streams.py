"""One HTTP request on its way through Envoy, by the mode in which Envoy sends its body.

    BUFFERED              headers, then the whole body in one message: each is answered at once
    FULL_DUPLEX_STREAMED  headers, then pieces: the headers' answer waits for the decision, then the body follows it
    STREAMED              pieces, each answered at once: all but the last are dropped, which becomes the whole body
    observability         pieces, and nobody reads an answer: the decision is made, logged and counted

Messages of Envoy's in, answers out. What they hold of headers of ours that a caller forged is taken away.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from turnout.serving.errors import InvalidRequest
from turnout.serving.protocols.ext_proc import messages
from turnout.serving.protocols.ext_proc.deciding import Deciding, EnvoyDecision, HeaderFields


class Stream:
    """A body that comes in one message, or is observed only.

    Of a body that is observed only, at most `max_bytes` + 1 bytes are kept: enough to know that it is too long.
    """

    def __init__(
        self, deciding: Deciding, deadline_s: float | None, max_bytes: int, *, hands_responses_on: bool = False
    ) -> None:
        """Prepare.

        Args:
            deciding: what decides.
            deadline_s: when Envoy gives up, on the monotonic clock; None for never.
            max_bytes: limit of a body.
            hands_responses_on: whether Envoy forwards nothing of a response's body but what it is sent back.
        """
        self._hands_responses_on = hands_responses_on
        self._deciding = deciding
        self._deadline_s = deadline_s
        self._room = max_bytes + 1
        self._told = HeaderFields()
        self._body = bytearray()
        self._is_decided = False

    async def replies(self, message: Any) -> AsyncIterator[Any]:
        """Yield the answers to one message; those to an observed one are for nobody."""
        kind = message.WhichOneof("request")
        content = getattr(message, kind)
        match kind:
            case "request_headers":
                self._told = messages.told_by(content)
                yield messages.without_forgeries(content)
            case "request_body":
                # A body that may be rewritten is kept whole: it comes in one message, within gRPC's own limit.
                self._body += (
                    content.body[: self._room - len(self._body)] if message.observability_mode else content.body
                )
                # A buffered body comes in one message, and does not say that it is the end when trailers follow.
                yield await self._decided(is_whole=content.end_of_stream or not message.observability_mode)
            case "request_trailers" if message.observability_mode:
                await self._decided(is_whole=True)
                yield messages.unchanged(kind)
            case _:
                for reply in self._others(kind, content):
                    yield reply

    def _others(self, kind: str, content: Any) -> Iterator[Any]:
        """Return the answers to a message that changes nothing, such as any of a response."""
        if kind == "response_body" and self._hands_responses_on:
            yield from messages.streamed(content.body, is_end=content.end_of_stream, kind=kind)
        else:
            yield messages.unchanged(kind)

    async def _decided(self, *, is_whole: bool) -> Any:
        if self._is_decided or not is_whole:
            return messages.unchanged("request_body")
        verdict = await self._verdict()
        self._body.clear()
        return messages.unchanged("request_body") if verdict is None else messages.carried_out(verdict)

    async def _verdict(self) -> EnvoyDecision | None:
        self._is_decided = True
        return await self._deciding.verdict(bytes(self._body), self._told, self._deadline_s)


class DuplexStream(Stream):
    """FULL_DUPLEX_STREAMED, as llm-d, Istio and the Gateway API inference extension configure it.

    Envoy holds the headers until they are answered, and forwards of the body what it is sent and nothing else. A body
    longer than the limit is decided by its beginning, which means left as it is, and passed on as it comes.
    """

    _headers: Any = None

    async def replies(self, message: Any) -> AsyncIterator[Any]:
        """Yield the answers to one message: none until the body is there, then headers and body together."""
        kind = message.WhichOneof("request")
        content = getattr(message, kind)
        match kind:
            case "request_headers":
                self._told = messages.told_by(content)
                if content.end_of_stream:
                    self._is_decided = True
                    yield messages.without_forgeries(content)
                else:
                    self._headers = content
            case "request_body":
                async for reply in self._take(content.body, is_end=content.end_of_stream):
                    yield reply
            case "request_trailers":
                if not self._is_decided:
                    async for reply in self._decide(is_whole=True, is_end=False):
                        yield reply
                yield messages.unchanged(kind)
            case _:
                for reply in self._others(kind, content):
                    yield reply

    async def _take(self, body: bytes, *, is_end: bool) -> AsyncIterator[Any]:
        if self._is_decided:
            for reply in messages.streamed(body, is_end=is_end):
                yield reply
            return
        self._body += body
        if is_end or len(self._body) >= self._room:
            async for reply in self._decide(is_whole=is_end, is_end=is_end):
                yield reply

    async def _decide(self, *, is_whole: bool, is_end: bool) -> AsyncIterator[Any]:
        """Answer the headers, then send the body as far as it has come; `is_end`: nothing follows it."""
        verdict = await self._verdict()
        body = bytes(self._body) if verdict is None or verdict.body is None else verdict.body
        self._body.clear()
        if self._headers is not None:
            yield messages.headers_decided(self._headers, verdict, len(body) if is_whole else None)
        for reply in messages.streamed(body, is_end=is_end):
            yield reply


class PieceByPieceStream(Stream):
    """STREAMED: the headers are gone before the body is there, so that only the body tells the model."""

    async def replies(self, message: Any) -> AsyncIterator[Any]:
        """Yield the answer to one message."""
        kind = message.WhichOneof("request")
        content = getattr(message, kind)
        match kind:
            case "request_headers":
                self._told = messages.told_by(content)
                has_body = not content.end_of_stream
                yield messages.without_length(content) if has_body else messages.without_forgeries(content)
            case "request_body":
                yield await self._take(content.body, is_end=content.end_of_stream)
            case "request_trailers" if self._body:
                raise InvalidRequest(
                    "a body in mode STREAMED can't be kept until its trailers; use FULL_DUPLEX_STREAMED"
                )
            case _:
                for reply in self._others(kind, content):
                    yield reply

    async def _take(self, body: bytes, *, is_end: bool) -> Any:
        if self._is_decided:
            return messages.unchanged("request_body")
        self._body += body
        if not is_end and len(self._body) < self._room:
            return messages.dropped()
        verdict = await self._verdict()
        whole = bytes(self._body) if verdict is None or verdict.body is None else verdict.body
        self._body.clear()
        return messages.replaced(whole)
