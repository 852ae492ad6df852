"""Route a chat call and make it, with the OpenAI SDK's own client: one line instead of two.

    answer = route_and_call(OpenAI(), [{"role": "user", "content": "Why is the sky blue?"}])

Messages in, the SDK's completion out, from the model that the router names. The SDK is not imported: any
client with `chat.completions.create` will do, such as `AzureOpenAI` or one with another `base_url`.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnout.serving.client import AsyncRouter, Router
from turnout.serving.gateways.chat import routing_body
from turnout.serving.routed import RouterBase
from turnout.serving.wire.asking import Routed, RouteFields

CALLERS_FAULT = frozenset({400, 401, 403, 413, 422})
"""Statuses with which the strong model would refuse the same call."""

Messages = Sequence[Mapping[str, Any]]
_routers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncRouter] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the SDK returned, and why from that model.

    Attributes:
        completion: a completion, or a stream of chunks with `stream=True`.
        routed: the decision.
        model: the model that answered: the routed one, or the strong one where the weak one failed.
    """

    completion: Any
    routed: Routed
    model: str

    @property
    def fell_back(self) -> bool:
        """Whether the router gave no answer, or the weak model none."""
        return self.routed.fallback_reason is not None or self.model != self.routed.model


def route_and_call(
    client: Any,
    messages: Messages,
    *,
    router: Router | None = None,
    route: RouteFields | None = None,
    **parameters: Any,
) -> Answer:
    """Return the answer of the model that the router names; of the strong one where that fails.

    Args:
        client: an `openai.OpenAI`, or what has its `chat.completions.create`.
        messages: OpenAI messages.
        router: whom to ask; None for one at the default address, shared by all calls.
        route: fields of `RouteItem` beside the content, such as `policy`, `session_id` or `tenant`.
        **parameters: of `create`, `model` left out.

    Raises:
        Exception: what the client raised, at the strong model, or for what is the caller's own fault (400, 401,
            403, 413, 422). No failure of routing raises.
    """
    asked = router or _default_router()
    routed = asked.route(**_item(messages, parameters, route))
    create = client.chat.completions.create
    try:
        return Answer(create(model=routed.model, messages=messages, **parameters), routed, routed.model)
    except Exception as error:  # noqa: BLE001  # of the client's own; what strong can't mend is raised again
        _raise_unless_strong_may_help(error, routed, asked)
    return Answer(create(model=asked.strong_model, messages=messages, **parameters), routed, asked.strong_model)


async def route_and_call_async(
    client: Any,
    messages: Messages,
    *,
    router: AsyncRouter | None = None,
    route: RouteFields | None = None,
    **parameters: Any,
) -> Answer:
    """Do the same with an `openai.AsyncOpenAI`; as `route_and_call`. The default router is one an event loop."""
    asked = router or _default_async_router()
    routed = await asked.route(**_item(messages, parameters, route))
    create = client.chat.completions.create
    try:
        return Answer(await create(model=routed.model, messages=messages, **parameters), routed, routed.model)
    except Exception as error:  # noqa: BLE001  # of the client's own; what strong can't mend is raised again
        _raise_unless_strong_may_help(error, routed, asked)
    return Answer(await create(model=asked.strong_model, messages=messages, **parameters), routed, asked.strong_model)


def _item(messages: Messages, parameters: Mapping[str, Any], route: RouteFields | None) -> RouteFields:
    try:
        body = routing_body({**parameters, "messages": messages})
    except (
        TypeError,
        ValueError,
        RecursionError,
    ):  # no JSON; the SDK says what is wrong with it, the router falls back
        body = b""
    item: RouteFields = {**(route or {}), "openai_body": body}
    return item


def _raise_unless_strong_may_help(error: Exception, routed: Routed, router: RouterBase) -> None:
    """Raise the error again when the strong model failed, or would fail as well."""
    if routed.model == router.strong_model or getattr(error, "status_code", None) in CALLERS_FAULT:
        raise error
    if isinstance(error, TypeError | ValueError):  # an argument that `create` does not take
        raise error


@functools.cache
def _default_router() -> Router:
    return Router()


def _default_async_router() -> AsyncRouter:
    loop = asyncio.get_running_loop()
    if loop not in _routers:
        _routers[loop] = AsyncRouter()
    return _routers[loop]
