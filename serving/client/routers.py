"""The reference client: asks the router, and answers with the strong model whenever that fails.

Content in, `Routed` out, always: no failure of routing raises. Falling back costs money, never
quality, and is counted by reason in `fallbacks`. An outcome that could not be reported is counted in
`unreported`. Imports neither numpy nor onnxruntime.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import grpc

from turnout.serving.client.failures import text_of, why_failed
from turnout.serving.client.routed import OUTCOME_TIMEOUT_S, Calls, RouterBase
from turnout.serving.wire.asking import Routed, RouteFields, RouteItem
from turnout.serving.wire.asking_check import AnswerItem, Judged
from turnout.serving.wire.outcome import OutcomeFields, outcome_request


class Broken(grpc.RpcError):  # type: ignore[misc]  # grpc has no types
    """A call whose channel was closed under it."""

    def code(self) -> grpc.StatusCode:
        """Return what gRPC would say of it."""
        return grpc.StatusCode.CANCELLED

    def details(self) -> str:
        """Return what happened."""
        return "the channel was closed while the call was on its way"


class Router(RouterBase):
    """Asks the router and waits. Thread-safe; keeps one channel open until `close`.

    Attributes:
        fallbacks: how often each reason made it answer with the strong model.
        unreported: how often each reason made `report_outcome` return False.
        unchecked: how often each reason made `check` escalate.
    """

    def _prepare(self) -> None:
        self._channel = (
            grpc.insecure_channel(self.target, options=self._options)
            if self._credentials is None
            else grpc.secure_channel(self.target, self._credentials, options=self._options)
        )
        self._own_calls = self._calls_of(self._channel)

    def _calls(self) -> Calls:
        self._check_usable()
        return self._own_calls

    def route(self, *, timeout_s: float | None = None, **request: Unpack[RouteFields]) -> Routed:
        """Return where the request is to go.

        Args:
            timeout_s: deadline of this call in seconds; None for the router's own default.
            **request: the request, with the fields of `RouteItem`.
        """
        started = time.perf_counter()
        try:
            reply = self._calls().route(self._item(request), timeout=self.timeout_s if timeout_s is None else timeout_s)
            return self._routed(reply, started)
        except Exception as error:  # noqa: BLE001  # the promise: whatever fails, there is an answer
            return self._failed(error, started)

    def route_batch(self, items: Sequence[RouteItem], *, timeout_s: float | None = None) -> list[Routed]:
        """Return where each request is to go, in their order, with one call.

        An item that fails falls back alone; when the call fails, all do. `timeout_s` is the deadline of the
        whole batch in seconds; None for the router's own default.
        """
        started = time.perf_counter()
        request, excluded = self._batch(items)
        try:
            reply = self._calls().route_batch(request, timeout=self.timeout_s if timeout_s is None else timeout_s)
            return self._routed_batch(reply, excluded, started)
        except Exception as error:  # noqa: BLE001  # the promise: whatever fails, there is an answer
            return self._all_fall_back(excluded, error, started)

    def check(
        self,
        answer: AnswerItem,
        routed: Routed | None = None,
        *,
        timeout_s: float | None = None,
        **request: Unpack[RouteFields],
    ) -> Judged:
        """Return what is to become of the weak model's answer; `escalate` whenever checking fails.

        Args:
            answer: the answer with its signals.
            routed: the decision that asked for it, so that the same bundle checks it.
            timeout_s: deadline of this call in seconds; None for the router's own default.
            **request: the request, with the fields of `RouteItem`, as it was routed; only its `request_id` (and
                `tenant`) where the server is to remember it, which it does for about two minutes.
        """
        started = time.perf_counter()
        try:
            asked = self._check_request(answer, routed, RouteItem(**request))
            reply = self._calls().check(asked, timeout=self.timeout_s if timeout_s is None else timeout_s)
            return self._judged(reply, started)
        except Exception as error:  # noqa: BLE001  # the promise: whatever fails, there is a verdict
            return self._escalated(why_failed(error), started, text_of(error))

    def report_outcome(
        self, request_id: str, *, timeout_s: float = OUTCOME_TIMEOUT_S, **fields: Unpack[OutcomeFields]
    ) -> bool:
        """Tell the server what became of a routed request; never raises.

        Args:
            request_id: the id under which the request was routed.
            timeout_s: deadline in seconds; the answer waits for the server's disk.
            **fields: what is known of it, see `OutcomeFields`.

        Returns:
            Whether the outcome is on the server's disk. When False it may be there all the same; `unreported`
            counts why, with the words of `fallbacks`.
        """
        try:
            self._calls().report_outcome(outcome_request(request_id, fields), timeout=timeout_s)
        except Exception as error:  # noqa: BLE001  # a report is never worth a failure of its caller
            return self._unreported(error)
        return True

    def close(self) -> None:
        """Close the channel; later calls fall back."""
        self._is_closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncRouter(RouterBase):
    """The same for asyncio. It may be made anywhere, and used in any event loop: each has a channel of its own."""

    def _prepare(self) -> None:
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[Any, Calls]] = (
            weakref.WeakKeyDictionary()
        )

    def _calls(self) -> Calls:
        self._check_usable()
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._by_loop:
                channel = self._open()
                self._by_loop[loop] = channel, self._calls_of(channel)
            return self._by_loop[loop][1]

    def _open(self) -> Any:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self.target, options=self._options)
        return grpc.aio.secure_channel(self.target, self._credentials, options=self._options)

    async def route(self, *, timeout_s: float | None = None, **request: Unpack[RouteFields]) -> Routed:
        """Return where the request is to go; as `Router.route`. A cancelled caller stays cancelled."""
        started = time.perf_counter()
        try:
            reply = await self._calls().route(
                self._item(request), timeout=self.timeout_s if timeout_s is None else timeout_s
            )
            return self._routed(reply, started)
        except asyncio.CancelledError:
            _raise_if_own()
            return self._failed(Broken(), started)
        except Exception as error:  # noqa: BLE001  # the promise: whatever fails, there is an answer
            return self._failed(error, started)

    async def route_batch(self, items: Sequence[RouteItem], *, timeout_s: float | None = None) -> list[Routed]:
        """Return where each request is to go; as `Router.route_batch`. A cancelled caller stays cancelled."""
        started = time.perf_counter()
        request, excluded = self._batch(items)
        try:
            reply = await self._calls().route_batch(request, timeout=self.timeout_s if timeout_s is None else timeout_s)
            return self._routed_batch(reply, excluded, started)
        except asyncio.CancelledError:
            _raise_if_own()
            return self._all_fall_back(excluded, Broken(), started)
        except Exception as error:  # noqa: BLE001  # the promise: whatever fails, there is an answer
            return self._all_fall_back(excluded, error, started)

    async def check(
        self,
        answer: AnswerItem,
        routed: Routed | None = None,
        *,
        timeout_s: float | None = None,
        **request: Unpack[RouteFields],
    ) -> Judged:
        """Return what is to become of the weak model's answer; as `Router.check`. A cancelled caller stays so."""
        started = time.perf_counter()
        try:
            asked = self._check_request(answer, routed, RouteItem(**request))
            reply = await self._calls().check(asked, timeout=self.timeout_s if timeout_s is None else timeout_s)
            return self._judged(reply, started)
        except asyncio.CancelledError:
            _raise_if_own()
            return self._escalated("cancelled", started)
        except Exception as error:  # noqa: BLE001  # the promise: whatever fails, there is a verdict
            return self._escalated(why_failed(error), started, text_of(error))

    async def report_outcome(
        self, request_id: str, *, timeout_s: float = OUTCOME_TIMEOUT_S, **fields: Unpack[OutcomeFields]
    ) -> bool:
        """Tell the server what became of a routed request; as `Router.report_outcome`. A cancelled caller stays so."""
        try:
            await self._calls().report_outcome(outcome_request(request_id, fields), timeout=timeout_s)
        except asyncio.CancelledError:
            _raise_if_own()
            return self._unreported(Broken())
        except Exception as error:  # noqa: BLE001  # a report is never worth a failure of its caller
            return self._unreported(error)
        return True

    async def close(self) -> None:
        """Close the channel of this event loop, and let go those of others; later calls fall back in all of them."""
        self._is_closed = True
        with self._lock:
            own = self._by_loop.get(asyncio.get_running_loop())
            self._by_loop.clear()
        if own is not None:
            await own[0].close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _raise_if_own() -> None:
    """Raise again a cancellation that is the caller's own; without one the channel was closed under the call."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise  # noqa: PLE0704  # called while the cancellation is being handled
