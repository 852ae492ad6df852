"""The reference client: asks the router, and answers with the strong model whenever that fails.

Content in, `Routed` out, always: no failure of routing raises. Falling back costs money, never
quality, and is counted by reason in `fallbacks`. Imports neither numpy nor onnxruntime.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import grpc

from serving.config import DEFAULT_LISTEN
from serving.errors import RequestError
from serving.pb import router_pb2 as pb
from serving.wire import ROUTE_METHOD, read_response, request_of

CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),  # the default of two minutes is two minutes of strong answers
    ("grpc.enable_http_proxy", 0),  # prompts go to the router and nowhere else
)


@dataclass(frozen=True, slots=True)
class Routed:
    """Where a request is to go; always usable.

    Attributes:
        model: name to put into the `model` field of the request.
        tier: `weak` or `strong`.
        p_match: calibrated probability that the weak model does as well; None when the model did not run.
        confidence: `p_match` when weak, `1 - p_match` when strong; None when the model did not run.
        threshold: what `p_match` was compared with; None on fallback.
        policy: the policy applied; empty on fallback.
        reason: `MODEL`, `RULE`, `TOO_LONG`, or `FALLBACK` when the router gave no answer.
        stage: `FAST` or `FULL`; None when the model did not run.
        bundle: `name/version` that answered; empty on fallback.
        latency_ms: wall time of the call, as the caller saw it.
        fallback_reason: why there was no answer: a gRPC code in lower case such as `deadline_exceeded`,
            `bad_response` or `client_error`; None when there was one.
    """

    model: str
    tier: Literal["weak", "strong"]
    p_match: float | None
    confidence: float | None
    threshold: float | None
    policy: str
    reason: str
    stage: str | None
    bundle: str
    latency_ms: float
    fallback_reason: str | None = None


class _RouterBase:
    """What both clients share: the defaults, the channel, reading the reply, counting fallbacks."""

    def __init__(
        self,
        target: str = DEFAULT_LISTEN,
        *,
        strong_model: str = "gpt-4o",
        timeout_s: float = 0.1,
        policy: str = "",
        bundle: str = "",
    ) -> None:
        """Name the server and the defaults of every call; the channel connects at the first call.

        Args:
            target: `host:port` of the server, or any gRPC target.
            strong_model: the name to answer with on fallback.
            timeout_s: deadline of a call in seconds; what a caller is willing to wait for saving money.
            policy: name of a policy; empty for the bundle's default.
            bundle: `name` or `name/version`; empty for the one served.
        """
        self.target = target
        self.strong_model = strong_model
        self.timeout_s = timeout_s
        self.policy = policy
        self.bundle = bundle
        self.fallbacks: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._channel = self._open(target)
        self._route = self._channel.unary_unary(
            ROUTE_METHOD,
            request_serializer=pb.RouteRequest.SerializeToString,
            response_deserializer=pb.RouteResponse.FromString,
        )

    def _open(self, target: str) -> Any:
        raise NotImplementedError

    def _routed(self, reply: Any, started: float) -> Routed:
        answer = read_response(reply)
        if answer is None:
            return self._fallback("bad_response", started)
        return Routed(
            model=answer.model,
            tier="weak" if answer.tier == "weak" else "strong",
            p_match=answer.p_match,
            confidence=answer.confidence,
            threshold=answer.threshold,
            policy=answer.policy,
            reason=answer.reason,
            stage=answer.stage,
            bundle=answer.bundle,
            latency_ms=_ms_since(started),
        )

    def _fallback(self, why: str, started: float) -> Routed:
        with self._lock:
            self.fallbacks[why] += 1
        return Routed(
            model=self.strong_model,
            tier="strong",
            p_match=None,
            confidence=None,
            threshold=None,
            policy="",
            reason="FALLBACK",
            stage=None,
            bundle="",
            latency_ms=_ms_since(started),
            fallback_reason=why,
        )


class Router(_RouterBase):
    """Asks the router and waits. Thread-safe; keeps one channel open until `close`.

    Attributes:
        fallbacks: how often each reason made it answer with the strong model.
    """

    def _open(self, target: str) -> Any:
        return grpc.insecure_channel(target, options=CHANNEL_OPTIONS)

    def route(
        self,
        *,
        text: str | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
        openai_body: bytes | None = None,
        policy: str | None = None,
        threshold: float | None = None,
        request_id: str = "",
        bundle: str | None = None,
        timeout_s: float | None = None,
    ) -> Routed:
        """Return where the request is to go.

        Args:
            text: the text of one user message; exactly one of the three contents is given.
            messages: OpenAI messages, `{"role": ..., "content": ...}`, content plain or in parts.
            openai_body: the raw JSON body of a chat.completions call.
            policy: name of a policy; None for the router's own default.
            threshold: threshold in [0, 1] instead of any policy.
            request_id: any string, for the server's records.
            bundle: `name` or `name/version`; None for the router's own default.
            timeout_s: deadline of this call in seconds; None for the router's own default.
        """
        started = time.perf_counter()
        try:
            request = request_of(
                text=text,
                messages=messages,
                openai_body=openai_body,
                policy=self.policy if policy is None else policy,
                threshold=threshold,
                request_id=request_id,
                bundle=self.bundle if bundle is None else bundle,
            )
            reply = self._route(request, timeout=self.timeout_s if timeout_s is None else timeout_s)
            return self._routed(reply, started)
        except Exception as error:  # noqa: BLE001  # the promise: whatever fails, there is an answer
            return self._fallback(_why(error), started)

    def close(self) -> None:
        """Close the channel; later calls fall back."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncRouter(_RouterBase):
    """The same for asyncio; made and used inside one running event loop."""

    def _open(self, target: str) -> Any:
        return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)

    async def route(
        self,
        *,
        text: str | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
        openai_body: bytes | None = None,
        policy: str | None = None,
        threshold: float | None = None,
        request_id: str = "",
        bundle: str | None = None,
        timeout_s: float | None = None,
    ) -> Routed:
        """Return where the request is to go; as `Router.route`. A cancelled caller stays cancelled."""
        started = time.perf_counter()
        try:
            request = request_of(
                text=text,
                messages=messages,
                openai_body=openai_body,
                policy=self.policy if policy is None else policy,
                threshold=threshold,
                request_id=request_id,
                bundle=self.bundle if bundle is None else bundle,
            )
            reply = await self._route(request, timeout=self.timeout_s if timeout_s is None else timeout_s)
            return self._routed(reply, started)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return self._fallback("cancelled", started)  # the channel was closed under the call
        except Exception as error:  # noqa: BLE001  # the promise: whatever fails, there is an answer
            return self._fallback(_why(error), started)

    async def close(self) -> None:
        """Close the channel; later calls fall back."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _why(error: Exception) -> str:
    if isinstance(error, RequestError):
        return str(error.code.name).lower()
    if isinstance(error, grpc.RpcError) and callable(getattr(error, "code", None)):
        return str(error.code().name).lower()
    return "client_error"


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1e3
