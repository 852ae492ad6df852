"""The reference client: asks the router, and answers with the strong model whenever that fails.

Content in, `Routed` out, always: no failure of routing raises. Falling back costs money, never
quality, and is counted by reason in `fallbacks`. An outcome that could not be reported is counted in
`unreported`. Imports neither numpy nor onnxruntime.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import grpc

from turnout.serving.routed import OUTCOME_TIMEOUT_S, ChannelOptions, RouterBase, why_failed
from turnout.serving.wire.asking import Routed, RouteFields, RouteItem
from turnout.serving.wire.asking_check import AnswerItem, Judged
from turnout.serving.wire.outcome import OutcomeFields, outcome_request

__all__ = ["AnswerItem", "AsyncRouter", "Judged", "RouteItem", "Routed", "Router"]


class Router(RouterBase):
    """Asks the router and waits. Thread-safe; keeps one channel open until `close`.

    Attributes:
        fallbacks: how often each reason made it answer with the strong model.
        unreported: how often each reason made `report_outcome` return False.
        unchecked: how often each reason made `check` escalate.
    """

    def _open(self, target: str, credentials: grpc.ChannelCredentials | None, options: ChannelOptions) -> Any:
        if credentials is None:
            return grpc.insecure_channel(target, options=options)
        return grpc.secure_channel(target, credentials, options=options)

    def route(self, *, timeout_s: float | None = None, **request: Unpack[RouteFields]) -> Routed:
        """Return where the request is to go.

        Args:
            timeout_s: deadline of this call in seconds; None for the router's own default.
            **request: the request, with the fields of `RouteItem`.
        """
        started = time.perf_counter()
        item = RouteItem(**request)
        try:
            reply = self._route(self._request(item), timeout=self.timeout_s if timeout_s is None else timeout_s)
            return self._routed(reply, started)
        except Exception as error:  # noqa: BLE001  # the promise: whatever fails, there is an answer
            return self._fallback(why_failed(error), started)

    def route_batch(self, items: Sequence[RouteItem], *, timeout_s: float | None = None) -> list[Routed]:
        """Return where each request is to go, in their order, with one call.

        An item that fails falls back alone; when the call fails, all do. `timeout_s` is the deadline of the
        whole batch in seconds; None for the router's own default.
        """
        started = time.perf_counter()
        request, excluded = self._batch(items)
        try:
            reply = self._route_batch(request, timeout=self.timeout_s if timeout_s is None else timeout_s)
            return self._routed_batch(reply, excluded, started)
        except Exception as error:  # noqa: BLE001  # the promise: whatever fails, there is an answer
            return self._all_fall_back(excluded, why_failed(error), started)

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
            reply = self._check(asked, timeout=self.timeout_s if timeout_s is None else timeout_s)
            return self._judged(reply, started)
        except Exception as error:  # noqa: BLE001  # the promise: whatever fails, there is a verdict
            return self._escalated(why_failed(error), started)

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
            self._report_outcome(outcome_request(request_id, fields), timeout=timeout_s)
        except Exception as error:  # noqa: BLE001  # a report is never worth a failure of its caller
            return self._unreported(why_failed(error))
        return True

    def close(self) -> None:
        """Close the channel; later calls fall back."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncRouter(RouterBase):
    """The same for asyncio; made and used inside one running event loop."""

    def _open(self, target: str, credentials: grpc.ChannelCredentials | None, options: ChannelOptions) -> Any:
        if credentials is None:
            return grpc.aio.insecure_channel(target, options=options)
        return grpc.aio.secure_channel(target, credentials, options=options)

    async def route(self, *, timeout_s: float | None = None, **request: Unpack[RouteFields]) -> Routed:
        """Return where the request is to go; as `Router.route`. A cancelled caller stays cancelled."""
        started = time.perf_counter()
        item = RouteItem(**request)
        try:
            reply = await self._route(self._request(item), timeout=self.timeout_s if timeout_s is None else timeout_s)
            return self._routed(reply, started)
        except asyncio.CancelledError:
            _raise_if_own()
            return self._fallback("cancelled", started)
        except Exception as error:  # noqa: BLE001  # the promise: whatever fails, there is an answer
            return self._fallback(why_failed(error), started)

    async def route_batch(self, items: Sequence[RouteItem], *, timeout_s: float | None = None) -> list[Routed]:
        """Return where each request is to go; as `Router.route_batch`. A cancelled caller stays cancelled."""
        started = time.perf_counter()
        request, excluded = self._batch(items)
        try:
            reply = await self._route_batch(request, timeout=self.timeout_s if timeout_s is None else timeout_s)
            return self._routed_batch(reply, excluded, started)
        except asyncio.CancelledError:
            _raise_if_own()
            return self._all_fall_back(excluded, "cancelled", started)
        except Exception as error:  # noqa: BLE001  # the promise: whatever fails, there is an answer
            return self._all_fall_back(excluded, why_failed(error), started)

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
            reply = await self._check(asked, timeout=self.timeout_s if timeout_s is None else timeout_s)
            return self._judged(reply, started)
        except asyncio.CancelledError:
            _raise_if_own()
            return self._escalated("cancelled", started)
        except Exception as error:  # noqa: BLE001  # the promise: whatever fails, there is a verdict
            return self._escalated(why_failed(error), started)

    async def report_outcome(
        self, request_id: str, *, timeout_s: float = OUTCOME_TIMEOUT_S, **fields: Unpack[OutcomeFields]
    ) -> bool:
        """Tell the server what became of a routed request; as `Router.report_outcome`. A cancelled caller stays so."""
        try:
            await self._report_outcome(outcome_request(request_id, fields), timeout=timeout_s)
        except asyncio.CancelledError:
            _raise_if_own()
            return self._unreported("cancelled")
        except Exception as error:  # noqa: BLE001  # a report is never worth a failure of its caller
            return self._unreported(why_failed(error))
        return True

    async def close(self) -> None:
        """Close the channel; later calls fall back."""
        await self._channel.close()

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
