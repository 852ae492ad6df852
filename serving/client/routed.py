"""What both clients share: their defaults, reading replies, and the fallback.

A call's arguments in, `Routed` out, whatever the server said or did not say.
"""

from __future__ import annotations

import abc
import functools
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import grpc

from turnout.serving.bundles.ladder import Rung, rung_of
from turnout.serving.client.connecting import PING_S, PING_TIMEOUT_S, ChannelOptions
from turnout.serving.client.connecting import channel_options as make_options
from turnout.serving.client.failures import BadResponse, ClientFault, Failures, text_of, why_failed
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.settings import DEFAULT_LISTEN
from turnout.serving.wire.asking import Routed, RouteItem, request_of, routed_of
from turnout.serving.wire.asking_check import AnswerItem, Judged, check_request, judged_of
from turnout.serving.wire.route import CHECK_METHOD, REPORT_OUTCOME_METHOD, ROUTE_BATCH_METHOD, ROUTE_METHOD

OUTCOME_TIMEOUT_S = 1.0
"""Default deadline of a report: it waits for a disk, and no user waits for it."""


class Calls(NamedTuple):
    """The methods of one channel; each takes a message and `timeout` in seconds."""

    route: Any
    route_batch: Any
    check: Any
    report_outcome: Any


class RouterBase(abc.ABC):
    """What both clients share: the defaults, the channel, reading the reply, counting fallbacks.

    Attributes:
        fallbacks: how often each reason made it answer with the strong model.
        unreported: how often each reason kept an outcome from being known to be on the server's disk.
        unchecked: how often each reason made it escalate an answer that nobody checked.
        causes: the same failures, by reason and the message that came with it; each is logged as a WARNING, at most
            once a minute.
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
        ping_s: float = PING_S,
        ping_timeout_s: float = PING_TIMEOUT_S,
        channel_options: ChannelOptions = (),
    ) -> None:
        """Name the server and the defaults of every call; the channel connects at the first call.

        Args:
            target: `host:port` of the server, or any gRPC target; with several addresses behind it, such as
                `ipv4:10.0.0.1:50151,10.0.0.2:50151` or `dns:///turnout:50151`, all of them take turns.
            strong_model: the name to answer with on fallback; `model:effort` for a model at a reasoning effort.
            timeout_s: deadline of a call in seconds; what a caller is willing to wait for saving money.
            policy: name of a policy; empty for the bundle's default.
            bundle: `name` or `name/version`; empty for the one served.
            credentials: `grpc.ssl_channel_credentials(...)` for TLS, with key and certificate for mutual TLS;
                None for plain text.
            token: bearer token shown with every call; empty for none. Without TLS others can read it on the way.
            watch_health: whether to keep a health stream to each address and call only those that say SERVING. For
                replicas' own addresses; through a proxy that spreads calls it would show the health of one of them
                as that of all.
            ping_s: seconds without a word from the server after which it is asked for a sign of life, so that a dead
                connection is left; 0 for never. Below what the server allows (5 s by default), it hangs up.
            ping_timeout_s: seconds that the sign may take.
            channel_options: gRPC's own, which go before those that this client sets.

        Raises:
            ValueError: a time that is no number of seconds above 0.
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
        self._failures = Failures()
        self._is_closed = False
        self._credentials = credentials
        self._token = token
        self._options = make_options(
            watch_health=watch_health, ping_s=ping_s, ping_timeout_s=ping_timeout_s, more=channel_options
        )
        self._prepare()

    @property
    def causes(self) -> Counter[str]:
        """How often each cause made a call fail: its reason, and the message that came with it."""
        return self._failures.causes

    @property
    def strong(self) -> Rung:
        """The strong model of fallbacks, its effort apart."""
        return rung_of(self.strong_model)

    @abc.abstractmethod
    def _prepare(self) -> None:
        """Make what the client needs before its first call."""

    @abc.abstractmethod
    def _calls(self) -> Calls:
        """Return the methods of the channel that is good here; raises what `_check_usable` does."""

    def _calls_of(self, channel: Any) -> Calls:
        """Return the methods of a channel."""
        metadata = (("authorization", f"Bearer {self._token}"),) if self._token else None

        def method(path: str, request: Any, response: Any) -> Any:
            stub = channel.unary_unary(
                path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
            )
            return functools.partial(stub, metadata=metadata)

        return Calls(
            method(ROUTE_METHOD, pb.RouteRequest, pb.RouteResponse),
            method(ROUTE_BATCH_METHOD, pb.RouteBatchRequest, pb.RouteBatchResponse),
            method(CHECK_METHOD, pb.CheckRequest, pb.CheckResponse),
            method(REPORT_OUTCOME_METHOD, pb.ReportOutcomeRequest, pb.ReportOutcomeResponse),
        )

    def _check_usable(self) -> None:
        """Raise `ClientFault` once closed, and for a token that no header can hold."""
        if self._is_closed:
            raise ClientFault("the client is closed")
        if not (self._token.isascii() and self._token.isprintable()):
            raise ClientFault("the token has characters that can't be sent, such as the end of a line")

    def _item(self, fields: Mapping[str, Any]) -> Any:
        """Return the `RouteRequest` of a call's arguments; raises `ClientFault` for one that there is not."""
        unknown = sorted(fields.keys() - RouteItem.__dataclass_fields__.keys())
        if unknown:
            raise ClientFault(f"route has no argument {', '.join(unknown)}; the request was not sent")
        return self._request(RouteItem(**fields))

    def _request(self, item: RouteItem) -> Any:
        """Return the `RouteRequest` of an item; raises what `request_of` raises."""
        return request_of(item, self.policy, self.bundle)

    def _batch(self, items: Sequence[RouteItem]) -> tuple[Any, list[Exception | None]]:
        """Return the `RouteBatchRequest` of the good items, and for each item why it is not in it, or None."""
        request = pb.RouteBatchRequest()
        excluded: list[Exception | None] = []
        for item in items:
            try:
                request.requests.append(self._request(item))
                excluded.append(None)
            except Exception as error:  # noqa: BLE001  # a bad item falls back alone
                excluded.append(error)
        return request, excluded

    def _routed_batch(self, reply: Any, excluded: Sequence[Exception | None], started: float) -> list[Routed]:
        """Return one answer an item; every item of a reply of the wrong length falls back."""
        if len(reply.results) != excluded.count(None):
            return self._all_fall_back(excluded, BadResponse("a batch of another length"), started)
        results = iter(reply.results)
        return [
            self._routed_result(next(results), started) if error is None else self._failed(error, started)
            for error in excluded
        ]

    def _routed_result(self, result: Any, started: float) -> Routed:
        if result.HasField("failure"):
            return self._fallback(code_name(result.failure.code), started, result.failure.message)
        return self._routed(result.response, started)

    def _all_fall_back(self, excluded: Sequence[Exception | None], error: Exception, started: float) -> list[Routed]:
        return [self._failed(own or error, started) for own in excluded]

    def _routed(self, reply: Any, started: float) -> Routed:
        return routed_of(reply, ms_since(started)) or self._failed(
            BadResponse("neither tier nor model in the answer"), started
        )

    def _failed(self, error: Exception, started: float) -> Routed:
        """Answer with the strong model for an exception."""
        return self._fallback(why_failed(error), started, text_of(error))

    def _fallback(self, why: str, started: float, text: str = "") -> Routed:
        with self._lock:
            self.fallbacks[why] += 1
        self._failures.note(why, text, f"{self.target} gave no route, and {self.strong_model} is the answer")
        return Routed(
            model=self.strong.model,
            tier="strong",
            reason="FALLBACK",
            latency_ms=ms_since(started),
            fallback_reason=why,
            effort=self.strong.effort,
        )

    def _check_request(self, answer: AnswerItem, routed: Routed | None, item: RouteItem) -> Any:
        """Return the `CheckRequest` of an answer; raises what `check_request` raises."""
        return check_request(answer, item, self.policy, self.bundle, routed)

    def _judged(self, reply: Any, started: float) -> Judged:
        return judged_of(reply, ms_since(started)) or self._escalated("bad_response", started)

    def _escalated(self, why: str, started: float, text: str = "") -> Judged:
        with self._lock:
            self.unchecked[why] += 1
        self._failures.note(why, text, f"{self.target} gave no verdict, and {self.strong_model} is the answer")
        return Judged(
            verdict="escalate",
            model=self.strong.model,
            reason="FALLBACK",
            latency_ms=ms_since(started),
            fallback_reason=why,
            effort=self.strong.effort,
        )

    def _unreported(self, error: Exception) -> bool:
        """Count a failed report; False, for the caller to return."""
        why = why_failed(error)
        with self._lock:
            self.unreported[why] += 1
        self._failures.note(why, text_of(error), f"{self.target} did not keep an outcome")
        return False


def code_name(number: int) -> str:
    """Return `not_found` for 5; a number that is no code of gRPC is a bad response."""
    names = {code.value[0]: str(code.name).lower() for code in grpc.StatusCode if code is not grpc.StatusCode.OK}
    return names.get(number, "bad_response")


def ms_since(started: float) -> float:
    """Return the milliseconds since `started` on the performance counter."""
    return (time.perf_counter() - started) * 1e3
