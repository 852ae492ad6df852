"""A chat completion as its caller asked for it: body, alias, deadline, and what the headers say of it.

Headers, all optional: x-request-id, x-turnout-tenant, x-turnout-session, x-turnout-task, connect-timeout-ms.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from turnout.serving.errors import InvalidRequest
from turnout.serving.gateways.aliases import Alias, alias_of
from turnout.serving.gateways.chat import routing_body
from turnout.serving.protocols.http.calls import deadline_of
from turnout.serving.protocols.http.chat.dialects import CHAT, Dialect
from turnout.serving.wire.asking import RouteItem, request_of

MAX_ID_CHARS = 256


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One call.

    Attributes:
        body: the decoded body; its model is an alias, or that of the upstream.
        alias: what the model's name stands for; None where it is the name of a model, to be called as it is.
        headers: of the caller.
        deadline_s: when it must have ended, on the monotonic clock.
        item: the request as the router takes it.
        dialect: the shape of the call.
        n_bytes: of the body as it came.
    """

    body: dict[str, Any]
    alias: Alias | None
    headers: Mapping[str, str]
    deadline_s: float
    item: RouteItem
    dialect: Dialect = CHAT
    n_bytes: int = 0

    @property
    def is_stream(self) -> bool:
        """Whether the answer is to come in chunks."""
        return self.body.get("stream") is True

    @property
    def includes_usage(self) -> bool:
        """Whether a stream is to end with the usage."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

    @property
    def wants_logprobs(self) -> bool:
        """Whether the caller asked for log-probabilities."""
        return self.dialect.wants_logprobs(self.body)

    @property
    def route_request(self) -> bytes:
        """The bytes of the `RouteRequest`; raises `InvalidRequest` and what `request_of` raises."""
        return bytes(request_of(self.item, "", "").SerializeToString())


def read_asked(raw: bytes, headers: Mapping[str, str], timeout_s: float, dialect: Dialect = CHAT) -> ChatCall:
    """Return the call of a body.

    Args:
        raw: the body.
        headers: names in lower case.
        timeout_s: how long it may take where the caller does not say.
        dialect: the shape of the call.

    Raises:
        InvalidRequest: no JSON object, or a deadline that is none; quotes no value.
    """
    now_s = time.monotonic()
    try:
        body = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("the body is not a JSON object") from None
    deadline_s = now_s + timeout_s
    own_s = deadline_of(headers, now_s)
    alias = alias_of(body.get("model"))
    wanted = alias or Alias()
    item = RouteItem(
        openai_body=_routing_body(body),
        policy=wanted.policy,
        threshold=wanted.threshold,
        bundle=wanted.bundle,
        request_id=headers.get("x-request-id", "")[:MAX_ID_CHARS] or str(uuid.uuid4()),
        tenant=headers.get("x-turnout-tenant", ""),
        session_id=headers.get("x-turnout-session", ""),
        task=headers.get("x-turnout-task", ""),
        can_check=dialect.is_checkable(body),
    )
    return ChatCall(body, alias, headers, min(deadline_s, own_s or deadline_s), item, dialect, len(raw))


def _routing_body(body: Mapping[str, Any]) -> bytes:
    try:
        return routing_body(body)
    except (
        TypeError,
        ValueError,
        RecursionError,
    ):  # of no shape: the strong model says what is wrong
        return b""
