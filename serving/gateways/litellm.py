"""The plug-in for the LiteLLM proxy: asks Turnout over gRPC and puts the model's name into the request.

Two ways in, one object (`turnout`) for both; docs/gateways/index.md has the configuration:

    callbacks: turnout.serving.gateways.litellm.turnout              requests for `auto` and the other aliases
    classifier_plugin: turnout.serving.gateways.litellm.turnout      the tiers of LiteLLM's own auto router

With `TURNOUT_CHECK=1` answers of the weak model are checked before anybody sees them, and escalated: chat completions
that do not stream, by callback. Their calls ask for log-probabilities, which the deployment must take. With
`TURNOUT_REPORT=1` each routed call is reported as an outcome: model, tokens, milliseconds.

Whatever goes wrong, a spent deadline included, the request goes to the strong model. Runs in LiteLLM's
process and environment; read from LiteLLM 1.106. Imports no inference library.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from litellm.integrations.custom_logger import CustomLogger

from turnout.serving.client import AsyncRouter
from turnout.serving.client.connecting import PING_S, PING_TIMEOUT_S
from turnout.serving.gateways import completions, responses
from turnout.serving.gateways.aliases import Alias, alias_of
from turnout.serving.gateways.chat import routing_body
from turnout.serving.gateways.completions import TOP_LOGPROBS, answer_item
from turnout.serving.gateways.litellm_calls import (
    LOGGED_METADATA,
    METADATA_KEY,
    decision_of,
    outcome_of,
)
from turnout.serving.router.bodies import SHAPES
from turnout.serving.settings import DEFAULT_LISTEN
from turnout.serving.wire.asking import Routed, RouteFields
from turnout.serving.wire.asking_check import Judged

CONVERSATIONS = frozenset(
    {"completion", "acompletion", "text_completion", "atext_completion", "responses", "aresponses"}
    | {"anthropic_messages", "aanthropic_messages", "generate_content", "agenerate_content"}
    | {"generate_content_stream", "agenerate_content_stream", "create_interaction", "acreate_interaction"}
)
"""Call types that carry a conversation; `auto` for any other, such as an embedding, is the strong model unasked."""

RESPONSES = frozenset({"responses", "aresponses"})

CHECKABLE = frozenset({"completion", "acompletion"})
"""Call types whose answers can be checked, unless they stream."""

_tried: ContextVar[_Tried | None] = ContextVar("tried", default=None)
"""The request of this task that the weak model is tried on: LiteLLM runs both hooks of a request in one task."""

_body: ContextVar[Mapping[str, Any]] = ContextVar("body")
"""The request on its way through the proxy: classifiers are not shown its tools and response format."""


@dataclass(frozen=True, slots=True)
class _Tried:
    """A request between its two hooks: the decision, what was routed by and asked, and since when."""

    routed: Routed
    item: RouteFields
    asked: dict[str, Any]
    began: float
    adds_logprobs: bool


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """How the plug-in asks; from the environment of the proxy.

    Attributes:
        server: `TURNOUT_SERVER`, `host:port` of Turnout.
        timeout_s: `TURNOUT_TIMEOUT_MS`, what a request waits for its route at most; 100 ms by default.
        strong_model: `TURNOUT_STRONG_MODEL`, the name to fall back to: a `model_name` of the proxy.
        tiers: `TURNOUT_TIERS`, names of the auto router's tiers for the weak and the strong model, with a comma; or of
            each rung of a ladder, `gpt-4o-mini=SIMPLE,gpt-4o=MEDIUM,o3:high=REASONING`.
        rung_tiers: of that, the tier of each rung.
        policy: `TURNOUT_POLICY`, where an alias names none; empty for the server's own.
        token: the bearer token in the file that `TURNOUT_TOKEN_FILE` names; empty for none.
        checks: whether `TURNOUT_CHECK` is `1`: answers of the weak model are checked where Turnout asks for it.
        reports: whether `TURNOUT_REPORT` is `1`: what each routed call used is reported as an outcome.
        credentials: TLS with the authorities in the PEM file that `TURNOUT_TLS_CA` names; None for plain text.
        ping_s: `TURNOUT_PING_S`, seconds of silence after which the server is asked for a sign of life; 0 for never.
        ping_timeout_s: `TURNOUT_PING_TIMEOUT_S`, seconds that the sign may take.
    """

    server: str = DEFAULT_LISTEN
    timeout_s: float = 0.1
    strong_model: str = "gpt-4o"
    tiers: tuple[str, str] = ("SIMPLE", "REASONING")
    rung_tiers: Mapping[str, str] = field(default_factory=dict)
    policy: str = ""
    token: str = ""
    checks: bool = False
    reports: bool = False
    credentials: grpc.ChannelCredentials | None = None
    ping_s: float = PING_S
    ping_timeout_s: float = PING_TIMEOUT_S

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> PluginSettings:
        """Read them.

        Raises:
            OSError: a file can't be read.
            ValueError: a time is no number, or the tiers are not two.
        """
        (weak, strong), rung_tiers = _tiers(environment.get("TURNOUT_TIERS", "SIMPLE,REASONING"))
        token_file, tls_ca = environment.get("TURNOUT_TOKEN_FILE"), environment.get("TURNOUT_TLS_CA")
        return cls(
            server=environment.get("TURNOUT_SERVER", DEFAULT_LISTEN),
            timeout_s=float(environment.get("TURNOUT_TIMEOUT_MS", "100")) / 1e3,
            strong_model=environment.get("TURNOUT_STRONG_MODEL", "gpt-4o"),
            tiers=(weak, strong),
            rung_tiers=rung_tiers,
            policy=environment.get("TURNOUT_POLICY", ""),
            checks=environment.get("TURNOUT_CHECK") == "1",
            reports=environment.get("TURNOUT_REPORT") == "1",
            token=Path(token_file).read_text("utf-8").strip() if token_file else "",
            credentials=grpc.ssl_channel_credentials(Path(tls_ca).read_bytes()) if tls_ca else None,
            ping_s=float(environment.get("TURNOUT_PING_S", PING_S)),
            ping_timeout_s=float(environment.get("TURNOUT_PING_TIMEOUT_S", PING_TIMEOUT_S)),
        )


class TurnoutPlugin(CustomLogger):  # type: ignore[misc]  # LiteLLM is not in this project's environment
    """Callback and classifier in one."""

    def __init__(self, settings: PluginSettings) -> None:
        """Take the settings; the connection is made at the first request, one an event loop."""
        super().__init__()
        self._settings = settings
        self._router: AsyncRouter | None = None

    @property
    def router(self) -> AsyncRouter:
        """The client, whose `fallbacks` count the requests that went strong for want of an answer."""
        if self._router is None:
            settings = self._settings
            self._router = AsyncRouter(
                settings.server,
                strong_model=settings.strong_model,
                timeout_s=settings.timeout_s,
                policy=settings.policy,
                credentials=settings.credentials,
                token=settings.token,
                ping_s=settings.ping_s,
                ping_timeout_s=settings.ping_timeout_s,
            )
        return self._router

    async def async_pre_call_hook(  # LiteLLM calls it only where the class itself has it
        self,
        user_api_key_dict: Any,
        cache: Any,
        data: dict[str, Any],
        call_type: str,
    ) -> dict[str, Any]:
        """Put the model's name in the place of an alias; LiteLLM's own signature."""
        del cache
        _body.set(data)
        _tried.set(None)
        alias = alias_of(data.get("model"))
        if alias is not None:
            tenant = getattr(user_api_key_dict, "team_id", None) or ""
            conversation = data if call_type in CONVERSATIONS else {}
            can_check = self._settings.checks and call_type in CHECKABLE and is_checkable(data)
            item = _item(conversation, alias, tenant, can_check=can_check)
            routed = await self.router.route(**item)
            asked = _asked(data) if routed.action == "try" else {}  # before the rung that is tried changes any of it
            _put(data, call_type, routed.model, routed.effort)
            if routed.action == "try":
                _try(data, asked, routed, item)
            _keep(data, decision_of(routed, item))
        return data

    async def async_post_call_success_hook(self, data: dict[str, Any], user_api_key_dict: Any, response: Any) -> Any:
        """Check the answer of a request that was tried, and escalate; LiteLLM's own signature."""
        del user_api_key_dict
        tried = _tried.get()
        _tried.set(None)
        if tried is None:
            return response
        dump = getattr(response, "model_dump", None)
        answer = answer_item(dump() if callable(dump) else {}, (time.perf_counter() - tried.began) * 1e3)
        judged = await self.router.check(answer, tried.routed, **tried.item)
        _keep(data, decision_of(tried.routed, tried.item, judged))
        if not judged.is_accepted:
            return await _call_strong(tried, judged)
        if tried.adds_logprobs:
            for choice in getattr(response, "choices", None) or ():
                choice.logprobs = None
        return response

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Report what a routed call used; LiteLLM's own signature, and no caller waits for it."""
        del start_time, end_time
        reported = outcome_of(kwargs, response_obj) if self._settings.reports and isinstance(kwargs, dict) else None
        if reported is not None:
            await self.router.report_outcome(reported[0], **reported[1])

    async def classify(self, context: Any) -> str:
        """Return the name of the auto router's tier; LiteLLM's own signature.

        Tools and response format are known where the plug-in is registered as a callback as well.
        """
        whole = _body.get({})
        messages = context.raw_messages or context.structured_messages
        data = whole if whole.keys() & (SHAPES - {"messages"}) else {**whole, "messages": messages}
        item = _item(data, Alias(), "")
        routed = await self.router.route(**item)
        if isinstance(whole, dict):
            _keep(whole, decision_of(routed, item))
        weak, strong = self._settings.tiers
        return self._settings.rung_tiers.get(routed.rung, weak if routed.tier == "weak" else strong)


def _tiers(said: str) -> tuple[tuple[str, str], dict[str, str]]:
    """Return the tiers of both ends and of each rung that is named; raises `ValueError` for another number."""
    parts = [part.strip() for part in said.split(",")]
    named = dict(part.rsplit("=", 1) for part in parts if "=" in part)
    if named and len(named) == len(parts) > 1:
        return (named[parts[0].rsplit("=", 1)[0]], named[parts[-1].rsplit("=", 1)[0]]), named
    weak, strong = parts
    return (weak, strong), {}


def _put(data: dict[str, Any], call_type: str, model: str, effort: str) -> None:
    """Put model and reasoning effort of a rung into a request of the proxy's."""
    put = responses.at_rung if call_type in RESPONSES else completions.at_rung
    sent = put(data, model, effort)
    for name in data.keys() - sent.keys():
        del data[name]
    data.update(sent)


def is_checkable(data: Mapping[str, Any]) -> bool:
    """Whether a call's answer comes whole and alone, so that it can be checked before anybody sees it."""
    return not data.get("stream") and data.get("n") in (None, 1)


def _item(data: Mapping[str, Any], alias: Alias, tenant: str, *, can_check: bool = False) -> RouteFields:
    try:
        body = routing_body(data)
    except (TypeError, ValueError, RecursionError):  # no JSON: the router answers an empty body with the strong model
        body = b""
    return {
        "openai_body": body,
        "request_id": _text(data.get("litellm_call_id")),
        "session_id": _text(data.get("litellm_session_id")),
        "tenant": tenant,
        "policy": alias.policy,
        "threshold": alias.threshold,
        "bundle": alias.bundle,
        "can_check": can_check,
    }


def _asked(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the caller asks of whichever model answers."""
    sent = data.get("proxy_server_request")
    body = sent.get("body") if isinstance(sent, dict) else None
    names = body.keys() if isinstance(body, dict) else ()
    asked = {name: data[name] for name in names if name in data and name != "model"}
    return asked | {"messages": data.get("messages")}


def _try(data: dict[str, Any], asked: dict[str, Any], routed: Routed, item: RouteFields) -> None:
    """Remember what was asked, and ask the weak model for log-probabilities, unless it reasons and so refuses them."""
    adds = data.get("logprobs") is None and not routed.effort
    _tried.set(_Tried(routed, item, asked, time.perf_counter(), adds))
    if adds:
        data["logprobs"], data["top_logprobs"] = True, TOP_LOGPROBS


async def _call_strong(tried: _Tried, judged: Judged) -> Any:
    """Return the strong model's answer, from the proxy's own deployments."""
    from litellm.proxy.proxy_server import llm_router  # noqa: PLC0415  # made when the proxy starts

    metadata = tried.asked.get("metadata")
    asked = {**tried.asked, "metadata": dict(metadata) if isinstance(metadata, dict) else {}}
    call = completions.at_rung(asked, judged.model, judged.effort)
    _keep(call, decision_of(tried.routed, tried.item, judged, is_escalated=True))
    return await llm_router.acompletion(**call)


def _keep(data: dict[str, Any], decision: dict[str, Any]) -> None:
    """Put the decision where LiteLLM logs it; some of its endpoints keep metadata under another name."""
    name = "litellm_metadata" if isinstance(data.get("litellm_metadata"), dict) else "metadata"
    if not isinstance(data.get(name), dict):
        data[name] = {}
    data[name][LOGGED_METADATA] = {**(data[name].get(LOGGED_METADATA) or {}), METADATA_KEY: decision}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


turnout = TurnoutPlugin(PluginSettings.of(os.environ))
