"""Route a chat call and make it, with the OpenAI SDK's own client: one line instead of two.

    answer = route_and_call(OpenAI(), [{"role": "user", "content": "Why is the sky blue?"}])

Messages in, the SDK's completion out, from the model that the router names. The SDK is not imported: any
client with `chat.completions.create` will do, such as `AzureOpenAI` or one with another `base_url`.
"""

from __future__ import annotations

import asyncio
import functools
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnout.serving.client import AsyncRouter, Router
from turnout.serving.client.routed import RouterBase, ms_since
from turnout.serving.gateways.chat import routing_body
from turnout.serving.gateways.completions import TOP_LOGPROBS, answer_item, at_rung
from turnout.serving.wire.asking import Routed, RouteFields
from turnout.serving.wire.asking_check import AnswerItem, Judged

CALLERS_FAULT = frozenset({400, 401, 403, 413, 422})
"""Statuses with which the strong model would refuse the same call."""
REFUSES_SIGNALS = frozenset({400, 422})
"""Statuses of a model that gives no log-probabilities; it is asked again without."""

Messages = Sequence[Mapping[str, Any]]
_routers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncRouter] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the SDK returned, and why from that model.

    Attributes:
        completion: a completion, or a stream of chunks with `stream=True`.
        routed: the decision.
        model: the model that answered: the routed one, or the strong one where the weak one failed or was escalated.
        judged: the verdict on the weak model's answer; None where it was not tried.
        tried: the weak model's completion that was escalated, for its usage; None for none.
    """

    completion: Any
    routed: Routed
    model: str
    judged: Judged | None = None
    tried: Any = None

    @property
    def fell_back(self) -> bool:
        """Whether the router gave no answer, the weak model none, or nobody could check it."""
        if self.routed.fallback_reason is not None:
            return True
        if self.judged is not None:
            return self.judged.fallback_reason is not None or self.model not in (self.routed.model, self.judged.model)
        return self.model != self.routed.model


def route_and_call(
    client: Any,
    messages: Messages,
    *,
    router: Router | None = None,
    route: RouteFields | None = None,
    **parameters: Any,
) -> Answer:
    """Return the answer of the model that the router names; of the strong one where that fails.

    Where the router says so, the weak model is tried: it answers whole, with log-probabilities unless
    `logprobs=False`, the answer is checked, and the strong model answers where it is not accepted. A call with
    `stream=True`, or for several choices, is routed by the prompt alone: nobody could check what is shown already.

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
    asked, parameters = router or _default_router(), _given(parameters)
    item = _item(messages, parameters, route)
    routed = asked.route(**item)
    create = client.chat.completions.create
    judged = tried = None
    for asks in _attempts(routed, parameters):
        started = time.perf_counter()
        try:
            completion = create(messages=messages, **at_rung(asks, routed.model, routed.effort))
        except Exception as error:  # noqa: BLE001  # of the client's own; what strong can't mend is raised again
            if asks is not parameters and getattr(error, "status_code", None) in REFUSES_SIGNALS:
                continue
            _raise_unless_strong_may_help(error, routed, asked)
            break
        if routed.action != "try":
            return Answer(completion, routed, routed.model)
        judged = asked.check(_answer_item(completion, started), routed, **item)
        if judged.is_accepted:
            return Answer(_shown(completion, parameters), routed, routed.model, judged)
        tried = completion
        break
    above = _above(asked, judged)
    try:
        completion = create(messages=messages, **at_rung(parameters, *above))
    except Exception as error:  # noqa: BLE001  # a rung between has the top above it
        above = _top_or_raise(error, above, asked)
        completion = create(messages=messages, **at_rung(parameters, *above))
    return Answer(completion, routed, above[0], judged, tried)


async def route_and_call_async(
    client: Any,
    messages: Messages,
    *,
    router: AsyncRouter | None = None,
    route: RouteFields | None = None,
    **parameters: Any,
) -> Answer:
    """Do the same with an `openai.AsyncOpenAI`; as `route_and_call`. The default router is one an event loop."""
    asked, parameters = router or _default_async_router(), _given(parameters)
    item = _item(messages, parameters, route)
    routed = await asked.route(**item)
    create = client.chat.completions.create
    judged = tried = None
    for asks in _attempts(routed, parameters):
        started = time.perf_counter()
        try:
            completion = await create(messages=messages, **at_rung(asks, routed.model, routed.effort))
        except Exception as error:  # noqa: BLE001  # of the client's own; what strong can't mend is raised again
            if asks is not parameters and getattr(error, "status_code", None) in REFUSES_SIGNALS:
                continue
            _raise_unless_strong_may_help(error, routed, asked)
            break
        if routed.action != "try":
            return Answer(completion, routed, routed.model)
        judged = await asked.check(_answer_item(completion, started), routed, **item)
        if judged.is_accepted:
            return Answer(_shown(completion, parameters), routed, routed.model, judged)
        tried = completion
        break
    above = _above(asked, judged)
    try:
        completion = await create(messages=messages, **at_rung(parameters, *above))
    except Exception as error:  # noqa: BLE001  # a rung between has the top above it
        above = _top_or_raise(error, above, asked)
        completion = await create(messages=messages, **at_rung(parameters, *above))
    return Answer(completion, routed, above[0], judged, tried)


def _given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what the SDK's own marks say is not given: it would do so too."""
    return {name: value for name, value in parameters.items() if type(value).__name__ not in ("NotGiven", "Omit")}


def _attempts(routed: Routed, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters to call the routed model with, one after the other while it refuses them.

    What is tried is asked for log-probabilities, unless the caller forbade them or asks for them himself.
    """
    if routed.action != "try" or parameters.get("logprobs") is not None:
        return [parameters]
    return [{**parameters, "logprobs": True, "top_logprobs": TOP_LOGPROBS}, parameters]


def _answer_item(completion: Any, started: float) -> AnswerItem:
    """Return what is checked of an SDK's completion."""
    dump = getattr(completion, "model_dump", None)
    return answer_item(dump() if callable(dump) else completion, ms_since(started))


def _shown(completion: Any, parameters: Mapping[str, Any]) -> Any:
    """Take log-probabilities that the caller did not ask for out of the SDK's own object."""
    if not parameters.get("logprobs"):
        for choice in getattr(completion, "choices", None) or ():
            choice.logprobs = None
    return completion


def _above(router: RouterBase, judged: Judged | None) -> tuple[str, str]:
    """Return model and effort of what answers once the first answer is not to be had or not to be shown."""
    return (router.strong.model, router.strong.effort) if judged is None else (judged.model, judged.effort)


def _top_or_raise(error: Exception, failed: tuple[str, str], router: RouterBase) -> tuple[str, str]:
    """Return model and effort of the strong model where another rung failed and it may help; else raise the error."""
    strong = router.strong.model, router.strong.effort
    is_callers = getattr(error, "status_code", None) in CALLERS_FAULT or isinstance(error, TypeError | ValueError)
    if failed == strong or is_callers:
        raise error
    return strong


def _item(messages: Messages, parameters: Mapping[str, Any], route: RouteFields | None) -> RouteFields:
    try:
        body = routing_body({**parameters, "messages": messages})
    except (
        TypeError,
        ValueError,
        RecursionError,
    ):  # no JSON; the SDK says what is wrong with it, the router falls back
        body = b""
    can_check = not parameters.get("stream") and parameters.get("n") in (None, 1)
    item: RouteFields = {"can_check": can_check, **(route or {}), "openai_body": body}
    return item


def _raise_unless_strong_may_help(error: Exception, routed: Routed, router: RouterBase) -> None:
    """Raise the error again when the strong model failed, or would fail as well."""
    if (routed.model, routed.effort) == (router.strong.model, router.strong.effort) or getattr(
        error, "status_code", None
    ) in CALLERS_FAULT:
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
