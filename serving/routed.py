"""What both clients share: their defaults, reading replies, and the fallback.

A call's arguments in, `Routed` out, whatever the server said or did not say.
"""

from __future__ import annotations

import abc
import functools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from turnout.serving.errors import RequestError
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.settings import DEFAULT_LISTEN
from turnout.serving.wire.asking import Routed, RouteItem, request_of, routed_of
from turnout.serving.wire.asking_check import AnswerItem, Judged, check_request, judged_of
from turnout.serving.wire.route import CHECK_METHOD, REPORT_OUTCOME_METHOD, ROUTE_BATCH_METHOD, ROUTE_METHOD

ChannelOptions = tuple[tuple[str, str | int], ...]

SERVICE_CONFIG = Path(__file__).with_name("service_config.json").read_text(encoding="utf-8")
"""gRPC's own words for how to call replicas, for clients of any language: in turns, those that say SERVING, and with
retries where the contract has them. See gateways/replicas.md for each figure."""

CHANNEL_OPTIONS: ChannelOptions = (
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),  # the default of two minutes is two minutes of strong answers
    ("grpc.enable_http_proxy", 0),  # prompts go to the router and nowhere else
)
WITHOUT_HEALTH = ("grpc.inhibit_health_checking", 1)

OUTCOME_TIMEOUT_S = 1.0
"""Default deadline of a report: it waits for a disk, and no user waits for it."""


class RouterBase(abc.ABC):
    """What both clients share: the defaults, the channel, reading the reply, counting fallbacks.

    Attributes:
        fallbacks: how often each reason made it answer with the strong model.
        unreported: how often each reason kept an outcome from being known to be on the server's disk.
        unchecked: how often each reason made it escalate an answer that nobody checked.
    """

    def __init__(
        self,
        target: str = DEFAULT_LISTEN,
        *,
        strong_model: str = "gpt-4o",
        timeout_s: float = 0.1,
        policy: str = "",
        bundle: str = "",
        credentials: grpc.ChannelCredentials | None = None,
        token: str = "",
        watch_health: bool = False,
    ) -> None:
        """Name the server and the defaults of every call; the channel connects at the first call.

        Args:
            target: `host:port` of the server, or any gRPC target; with several addresses behind it, such as
                `ipv4:10.0.0.1:50151,10.0.0.2:50151` or `dns:///turnout:50151`, all of them take turns.
            strong_model: the name to answer with on fallback.
            timeout_s: deadline of a call in seconds; what a caller is willing to wait for saving money.
            policy: name of a policy; empty for the bundle's default.
            bundle: `name` or `name/version`; empty for the one served.
            credentials: `grpc.ssl_channel_credentials(...)` for TLS, with key and certificate for mutual TLS;
                None for plain text.
            token: bearer token shown with every call; empty for none. Without TLS others can read it on the way.
            watch_health: whether to keep a health stream to each address and call only those that say SERVING. For
                replicas' own addresses; through a proxy that spreads calls it would show the health of one of them
                as that of all.
        """
        self.target = target
        self.strong_model = strong_model
        self.timeout_s = timeout_s
        self.policy = policy
        self.bundle = bundle
        self.fallbacks: Counter[str] = Counter()
        self.unreported: Counter[str] = Counter()
        self.unchecked: Counter[str] = Counter()
        self._lock = threading.Lock()
        options = CHANNEL_OPTIONS if watch_health else (*CHANNEL_OPTIONS, WITHOUT_HEALTH)
        self._channel = self._open(target, credentials, options)
        metadata = (("authorization", f"Bearer {token}"),) if token else None

        def method(path: str, request: Any, response: Any) -> Any:
            stub = self._channel.unary_unary(
                path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
            )
            return functools.partial(stub, metadata=metadata)

        self._route = method(ROUTE_METHOD, pb.RouteRequest, pb.RouteResponse)
        self._route_batch = method(ROUTE_BATCH_METHOD, pb.RouteBatchRequest, pb.RouteBatchResponse)
        self._check = method(CHECK_METHOD, pb.CheckRequest, pb.CheckResponse)
        self._report_outcome = method(REPORT_OUTCOME_METHOD, pb.ReportOutcomeRequest, pb.ReportOutcomeResponse)

    @abc.abstractmethod
    def _open(self, target: str, credentials: grpc.ChannelCredentials | None, options: ChannelOptions) -> Any:
        """Return a channel to the target; it connects at the first call."""

    def _request(self, item: RouteItem) -> Any:
        """Return the `RouteRequest` of an item; raises what `request_of` raises."""
        return request_of(item, self.policy, self.bundle)

    def _batch(self, items: Sequence[RouteItem]) -> tuple[Any, list[str | None]]:
        """Return the `RouteBatchRequest` of the good items, and for each item why it is not in it, or None."""
        request = pb.RouteBatchRequest()
        excluded: list[str | None] = []
        for item in items:
            try:
                request.requests.append(self._request(item))
                excluded.append(None)
            except Exception as error:  # noqa: BLE001  # a bad item falls back alone
                excluded.append(why_failed(error))
        return request, excluded

    def _routed_batch(self, reply: Any, excluded: Sequence[str | None], started: float) -> list[Routed]:
        """Return one answer an item; every item of a reply of the wrong length falls back."""
        if len(reply.results) != excluded.count(None):
            return self._all_fall_back(excluded, "bad_response", started)
        results = iter(reply.results)
        return [
            self._routed_result(next(results), started) if why is None else self._fallback(why, started)
            for why in excluded
        ]

    def _routed_result(self, result: Any, started: float) -> Routed:
        if result.HasField("failure"):
            return self._fallback(code_name(result.failure.code), started)
        return self._routed(result.response, started)

    def _all_fall_back(self, excluded: Sequence[str | None], why: str, started: float) -> list[Routed]:
        return [self._fallback(own or why, started) for own in excluded]

    def _routed(self, reply: Any, started: float) -> Routed:
        return routed_of(reply, ms_since(started)) or self._fallback("bad_response", started)

    def _fallback(self, why: str, started: float) -> Routed:
        with self._lock:
            self.fallbacks[why] += 1
        return Routed(
            model=self.strong_model,
            tier="strong",
            reason="FALLBACK",
            latency_ms=ms_since(started),
            fallback_reason=why,
        )

    def _check_request(self, answer: AnswerItem, routed: Routed | None, item: RouteItem) -> Any:
        """Return the `CheckRequest` of an answer; raises what `check_request` raises."""
        return check_request(answer, item, self.policy, self.bundle, routed)

    def _judged(self, reply: Any, started: float) -> Judged:
        return judged_of(reply, ms_since(started)) or self._escalated("bad_response", started)

    def _escalated(self, why: str, started: float) -> Judged:
        with self._lock:
            self.unchecked[why] += 1
        return Judged(
            verdict="escalate",
            model=self.strong_model,
            reason="FALLBACK",
            latency_ms=ms_since(started),
            fallback_reason=why,
        )

    def _unreported(self, why: str) -> bool:
        """Count a failed report; False, for the caller to return."""
        with self._lock:
            self.unreported[why] += 1
        return False


def why_failed(error: Exception) -> str:
    """Return a gRPC code in lower case, or `client_error`."""
    if isinstance(error, RequestError):
        return str(error.code.name).lower()
    if isinstance(error, grpc.RpcError) and callable(getattr(error, "code", None)):
        return str(error.code().name).lower()
    return "client_error"


def code_name(number: int) -> str:
    """Return `not_found` for 5; a number that is no code of gRPC is a bad response."""
    names = {code.value[0]: str(code.name).lower() for code in grpc.StatusCode if code is not grpc.StatusCode.OK}
    return names.get(number, "bad_response")


def ms_since(started: float) -> float:
    """Return the milliseconds since `started` on the performance counter."""
    return (time.perf_counter() - started) * 1e3
