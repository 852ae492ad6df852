"""From an HTTP body to what is to become of it: the decision path of `Route`, and its failures, in Envoy's terms.

Body and `HeaderFields` in, `EnvoyDecision` out; None leaves the request as it is. Whatever fails, the strong model is
the answer here too: Envoy itself has no way to fall back to a model.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Literal

from turnout.serving.errors import DeadlineSpent, InvalidRequest
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.protocols.ext_proc.chat_body import AskedModel, asks_for_auto, read_asked_model, with_model
from turnout.serving.service.answering import Answering
from turnout.serving.service.status import failure_of
from turnout.serving.settings import ExtProc, ServerSettings

AUTO = "auto"
"""Asks for either model; so does the name of a model of the pair, which needs no server to be understood."""

Untouched = Literal["too_large", "not_chat", "other_model"]


@dataclass(frozen=True, slots=True)
class HeaderFields:
    """What the HTTP headers say of a request; empty strings where they say nothing."""

    request_id: str = ""
    policy: str = ""
    tenant: str = ""
    session_id: str = ""
    task: str = ""


@dataclass(frozen=True, slots=True)
class EnvoyDecision:
    """What is to become of a request.

    Attributes:
        model: name of the model that is to answer.
        reason: of the contract, without its prefix, or `FALLBACK`.
        bundle: `name/version` that answered, or would have.
        confidence: as in the contract; None where there is none.
        body: replaces the request's; None leaves it.
        rung: name of the rung; of a pair that of the model.
        effort: reasoning effort that the body is to ask for; empty for none.
    """

    model: str
    reason: str
    bundle: str
    confidence: float | None
    body: bytes | None
    rung: str = ""
    effort: str = ""


class Deciding:
    """Decides on HTTP bodies by the one path of every request."""

    def __init__(self, answering: Answering, settings: ServerSettings) -> None:
        """Take the path, the limits, and whether bodies may be rewritten."""
        self._answering = answering
        self._metrics = answering.lifecycle.metrics
        self._max_bytes = settings.max_request_bytes
        self._timeout_s = settings.ext_proc_timeout_s
        self._rewrites = settings.ext_proc is ExtProc.REWRITE

    async def verdict(self, body: bytes, told: HeaderFields, deadline_s: float | None) -> EnvoyDecision | None:
        """Return what is to become of a request, or None to leave it as it is.

        Args:
            body: of the HTTP request, whole, or, where it is observed only, its beginning, longer than the limit.
            told: what its headers say.
            deadline_s: when Envoy gives up the stream, on the monotonic clock; None for never.
        """
        asked = self._asked(body)
        if not isinstance(asked, AskedModel):
            return self._unread(body, asked)
        try:
            reply = await self._answer(body, told, deadline_s)
        except InvalidRequest:  # a conversation of another shape, or none
            return self._unread(body, "not_chat")
        except Exception as error:  # noqa: BLE001  # whatever it is, its text must not reach Envoy
            self._metrics.failed(failure_of(error).code)
            return self._fallback(body, asked.model)
        reason = pb.Reason.Name(reply.reason).removeprefix("REASON_")
        confidence = reply.confidence if reply.HasField("confidence") else None
        return EnvoyDecision(
            reply.model,
            reason,
            reply.bundle,
            confidence,
            self._rewritten(body, asked.model, reply.model, reply.effort),
            reply.rung,
            reply.effort,
        )

    def _asked(self, body: bytes) -> AskedModel | Untouched:
        """Return what the body asks for, or why that is not for us to decide."""
        if len(body) > self._max_bytes:
            return "too_large"
        asked = read_asked_model(body)
        if asked is None or not asked.is_conversation:
            return "not_chat"
        return asked if asked.model is None or asked.model in self._routable() else "other_model"

    def _unread(self, body: bytes, why: Untouched) -> EnvoyDecision | None:
        """Leave a request that is not ours to decide; `auto`, which no vendor knows, becomes the strong model."""
        self._metrics.untouched(why)
        asked = read_asked_model(body)
        is_auto = asks_for_auto(body) if asked is None else asked.model == AUTO
        return self._fallback(body, AUTO) if is_auto else None

    async def _answer(self, body: bytes, told: HeaderFields, deadline_s: float | None) -> Any:
        """Return the `RouteResponse`, in time for Envoy to use it."""
        give_up_s = time.monotonic() + self._timeout_s
        give_up_s = give_up_s if deadline_s is None else min(give_up_s, deadline_s)
        request = pb.RouteRequest(
            openai_body=body,
            request_id=told.request_id,
            policy=told.policy,
            tenant=told.tenant,
            session_id=told.session_id,
            task=told.task,
        )
        try:
            async with asyncio.timeout(give_up_s - time.monotonic()):
                return await self._answering.answer(request.SerializeToString(), give_up_s)
        except TimeoutError:
            raise DeadlineSpent("Envoy's time for this message is up") from None

    def _routable(self) -> set[str]:
        served = self._answering.lifecycle.lineup.served
        return {AUTO, *(name for one in served for names in one.names for name in names)}

    def _fallback(self, body: bytes, asked: str | None) -> EnvoyDecision:
        default = self._answering.lifecycle.lineup.default
        top = default.ladder[-1]
        rewritten = self._rewritten(body, asked, top.model, top.effort)
        return EnvoyDecision(top.model, "FALLBACK", default.manifest.bundle_id, None, rewritten, top.name, top.effort)

    def _rewritten(self, body: bytes, asked: str | None, model: str, effort: str = "") -> bytes | None:
        return with_model(body, model, effort) if self._rewrites and (effort or asked != model) else None
