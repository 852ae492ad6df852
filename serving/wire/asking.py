"""What a client asks and what it is told: `RouteItem` to `RouteRequest`, `RouteResponse` to `Routed`.

Imports neither numpy nor onnxruntime: clients stay light.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import msgspec

from turnout.serving.errors import InvalidRequest
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.bodies import BESIDE_TEXT
from turnout.serving.router.prompt import clean_text

TierName = Literal["weak", "between", "strong"]
TIERS: dict[int, TierName] = {pb.TIER_WEAK: "weak", pb.TIER_STRONG: "strong"}

ActionName = Literal["weak", "try", "strong"]
ACTIONS: dict[int, ActionName] = {pb.ACTION_WEAK: "weak", pb.ACTION_TRY: "try", pb.ACTION_STRONG: "strong"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteItem:
    """One request to route; None takes the router's own default.

    Attributes:
        text: the text of one user message; exactly one of the four contents is given.
        messages: OpenAI messages, `{"role": ..., "content": ...}`, content plain or in parts.
        openai_body: the raw JSON body of a chat.completions, Responses or completions call.
        anthropic_body: the raw JSON body of an Anthropic Messages call.
        policy: name of a policy.
        threshold: threshold in [0, 1] instead of any policy.
        request_id: any string, to report the outcome under, and for the server's records.
        bundle: `name` or `name/version`.
        tenant: on whose behalf; under load one tenant gets at most its share, and rules may name it.
        task: what kind of work, for rules that name it.
        session_id: the conversation; draws such as rollouts are the same for all of it.
        previous_tier: where the session's request before went: a switch throws its prompt cache away. `between` says
            nothing without `previous_rung`.
        cached_tokens: of the prompt, in the cache of the model of `previous_tier`.
        expected_output_tokens: of the answer, for the expected costs; None for the server's assumption.
        explain: whether to be told which parts of the prompt decided; costs a run of the model for each part.
        can_check: whether the weak model's answer will be shown to `check` when asked to; allows the action `try`.
        per_rung: whether to be told p, threshold and expected cost of each rung.
        previous_rung: of a ladder, the rung that the session's request before went to, in the place of `previous_tier`.
    """

    text: str | None = None
    messages: Sequence[Mapping[str, Any]] | None = None
    openai_body: bytes | None = None
    anthropic_body: bytes | None = None
    policy: str | None = None
    threshold: float | None = None
    request_id: str = ""
    bundle: str | None = None
    tenant: str = ""
    task: str = ""
    session_id: str = ""
    previous_tier: TierName | None = None
    cached_tokens: int = 0
    expected_output_tokens: int | None = None
    explain: bool = False
    can_check: bool = False
    per_rung: bool = False
    previous_rung: str = ""


class RouteFields(TypedDict, total=False):
    """The fields of `RouteItem` as arguments of `Router.route`."""

    text: str | None
    messages: Sequence[Mapping[str, Any]] | None
    openai_body: bytes | None
    anthropic_body: bytes | None
    policy: str | None
    threshold: float | None
    request_id: str
    bundle: str | None
    tenant: str
    task: str
    session_id: str
    previous_tier: TierName | None
    cached_tokens: int
    expected_output_tokens: int | None
    explain: bool
    can_check: bool
    per_rung: bool
    previous_rung: str


@dataclass(frozen=True, slots=True)
class RungAsked:
    """What decided on one rung, as `RungLook` of the contract; None where unknown."""

    rung: str
    model: str
    effort: str
    p: float | None
    threshold: float | None
    cost_usd: float | None
    is_offered: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the rendered prompt, code points `start` to `end`, and `p_match` of the prompt without it."""

    start: int
    end: int
    p_match_without: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """Where a request is to go; always usable.

    Attributes:
        model: name to put into the `model` field of the request.
        tier: `weak` or `strong`; `between` of a ladder of more than two, where `model` and `rung` tell.
        action: `weak`, `try` or `strong`: what to do. With `try`, have `model` answer and show the answer to `check`
            before anybody sees it; only where `can_check` was said.
        p_match: calibrated probability that the weak model does as well; None when the model did not run.
        confidence: `p_match` when weak, `1 - p_match` when strong; None when the model did not run.
        threshold: what `p_match` was compared with; None on fallback.
        policy: the policy applied; empty on fallback.
        reason: a reason of the contract such as `MODEL`, or `FALLBACK` when the router gave no answer.
        stage: `FAST` or `FULL`; None when the model did not run.
        bundle: `name/version` that answered; empty on fallback.
        rule: name of the server's rule that applied; empty for none.
        route_propensity: probability in (0, 1] that a request like this one is routed so; None on fallback.
        weak_cost_usd, strong_cost_usd: expected of this request; None where unknown.
        wants_both: whether to obtain the other model's answer as well, for training. Show the one of `model`, and
            report an outcome of each, with its model's name.
        pair_propensity: probability in [0, 1] that `wants_both` is set for a request like this one.
        parts: what was asked for with `explain`.
        latency_ms: wall time of the call, as the caller saw it.
        fallback_reason: why there was no answer: a gRPC code in lower case such as `deadline_exceeded`,
            `bad_response` or `client_error`; None when there was one.
        rung: name of the rung, `model` or `model:effort`; empty on fallback.
        effort: reasoning effort to put into the request; empty for none.
        p_rungs: what decided on each rung, the cheapest first, where that was asked for.
        other_model, other_effort: with `wants_both`, the model whose answer is wanted as well; empty for the other
            model of the pair.
        other_rung: name of its rung.
    """

    model: str
    tier: TierName
    action: ActionName = "strong"
    p_match: float | None = None
    confidence: float | None = None
    threshold: float | None = None
    policy: str = ""
    reason: str
    stage: str | None = None
    bundle: str = ""
    rule: str = ""
    route_propensity: float | None = None
    weak_cost_usd: float | None = None
    strong_cost_usd: float | None = None
    wants_both: bool = False
    pair_propensity: float = 0.0
    parts: tuple[Part, ...] = ()
    latency_ms: float
    fallback_reason: str | None = None
    rung: str = ""
    effort: str = ""
    p_rungs: tuple[RungAsked, ...] = ()
    other_model: str = ""
    other_effort: str = ""
    other_rung: str = ""


def request_of(item: RouteItem, policy: str, bundle: str) -> Any:
    """Return the `RouteRequest` of an item; `policy` and `bundle` stand in where it names none.

    Raises:
        InvalidRequest: not exactly one of `text`, `messages`, `openai_body` and `anthropic_body`.
        TypeError, ValueError: a value that the field can't hold.
    """
    contents = (item.text, item.messages, item.openai_body, item.anthropic_body)
    if sum(content is not None for content in contents) != 1:
        raise InvalidRequest("expected exactly one of text, messages, openai_body, anthropic_body")
    request = pb.RouteRequest(
        request_id=item.request_id,
        bundle=bundle if item.bundle is None else item.bundle,
        tenant=item.tenant,
        task=item.task,
        session_id=item.session_id,
        previous_tier=f"TIER_{item.previous_tier.upper()}" if item.previous_tier in ("weak", "strong") else None,
        cached_tokens=item.cached_tokens,
        expected_output_tokens=item.expected_output_tokens,
        explain=item.explain,
        can_check=item.can_check,
        per_rung=item.per_rung,
        previous_rung=item.previous_rung,
    )
    wanted = policy if item.policy is None else item.policy
    if item.threshold is not None:
        request.threshold = item.threshold
    elif wanted:
        request.policy = wanted
    _set_content(request, item)
    return request


def _set_content(request: Any, item: RouteItem) -> None:
    if item.text is not None:
        request.text = clean_text(item.text)
    elif item.openai_body is not None:
        request.openai_body = item.openai_body
    elif item.anthropic_body is not None:
        request.anthropic_body = item.anthropic_body
    elif item.messages is not None and _are_plain(item.messages):
        request.messages.messages.extend(_plain_message(message) for message in item.messages)
        request.messages.SetInParent()
    else:
        request.openai_body = msgspec.json.encode({"messages": item.messages})


def _are_plain(messages: Iterable[Mapping[str, Any]]) -> bool:
    return all(
        isinstance(message.get("content"), str | None) and not message.keys() & BESIDE_TEXT for message in messages
    )


def _plain_message(message: Mapping[str, Any]) -> Any:
    return pb.Message(role=message.get("role") or "user", text=clean_text(message.get("content") or ""))


def routed_of(reply: Any, latency_ms: float) -> Routed | None:
    """Return what a `RouteResponse` says; None when it names no model, or neither tier nor rung."""
    tier = TIERS.get(reply.tier) or ("between" if reply.rung and reply.tier == pb.TIER_UNSPECIFIED else None)
    if tier is None or not reply.model:
        return None
    return Routed(
        model=reply.model,
        tier=tier,
        action=ACTIONS.get(reply.action, "weak" if tier == "weak" else "strong"),  # a server from before the field
        p_match=optional(reply, "p_match"),
        confidence=optional(reply, "confidence"),
        threshold=reply.threshold,
        policy=reply.policy,
        reason=short_name(pb.Reason, reply.reason) or "RULE",  # a later server may know more reasons
        stage=short_name(pb.Stage, reply.stage),
        bundle=reply.bundle,
        rule=reply.rule,
        route_propensity=reply.route_propensity or None,  # 0: a server from before the field
        weak_cost_usd=optional(reply, "weak_cost_usd"),
        strong_cost_usd=optional(reply, "strong_cost_usd"),
        wants_both=reply.wants_both,
        pair_propensity=reply.pair_propensity,
        parts=tuple(Part(part.start, part.end, part.p_match_without) for part in reply.contributions),
        latency_ms=latency_ms,
        rung=reply.rung,
        effort=reply.effort,
        p_rungs=rungs_asked(reply.p_rungs),
        other_model=reply.other.model,
        other_effort=reply.other.effort,
        other_rung=reply.other.name,
    )


def rungs_asked(looks: Iterable[Any]) -> tuple[RungAsked, ...]:
    """Return what a reply says of its rungs."""
    return tuple(
        RungAsked(
            one.rung,
            one.model,
            one.effort,
            optional(one, "p"),
            optional(one, "threshold"),
            optional(one, "cost_usd"),
            one.is_offered,
        )
        for one in looks
    )


def optional(reply: Any, field: str) -> float | None:
    """Return a number that a reply may lack; None where it does."""
    return getattr(reply, field) if reply.HasField(field) else None


def short_name(enum: Any, number: int) -> str | None:
    """Return `MODEL` for `REASON_MODEL`; None for the unspecified and for numbers of a later proto."""
    if number not in enum.values() or number == 0:
        return None
    return str(enum.Name(number)).partition("_")[2]
