"""Where the messages of one request meet the domain types, for server and client alike.

Server: bytes in, `RouteCall` out; `Decision` in, `RouteResponse` out. Client: content in, `RouteRequest`
out; `RouteResponse` in, `Answer` out. Imports neither numpy nor onnxruntime: clients stay light.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from serving.costs import ExpectedCosts
from serving.errors import InvalidRequest
from serving.pb import router_pb2 as pb
from serving.prompt import ChatBody, Message, Prompt, clean_text, prompt_from_chat, prompt_from_json, prompt_from_text
from serving.routes import Route

if TYPE_CHECKING:
    from serving.decision import Decision  # brings onnxruntime
    from serving.explain import Contribution

SERVICE_NAME = "turnout.v1.RouterService"
ROUTE_METHOD = f"/{SERVICE_NAME}/Route"
ROUTE_BATCH_METHOD = f"/{SERVICE_NAME}/RouteBatch"
ROUTE_STREAM_METHOD = f"/{SERVICE_NAME}/RouteStream"
REPORT_OUTCOME_METHOD = f"/{SERVICE_NAME}/ReportOutcome"
DESCRIBE_MODEL_METHOD = f"/{SERVICE_NAME}/DescribeModel"

TIERS = {pb.TIER_WEAK: Route.WEAK, pb.TIER_STRONG: Route.STRONG}


@dataclass(frozen=True, slots=True)
class RouteCall:
    """A `RouteRequest` in domain types.

    Attributes:
        request_id: echoed in the response.
        prompt: what is to be routed; may be empty.
        policy: name of a policy; empty for the default one.
        threshold: the caller's own threshold, not checked yet; None when a policy rules.
        bundle: `name` or `name/version`; empty for the one served.
        tenant: on whose behalf; empty for the tenant without a name.
        task: what kind of work; empty where unknown.
        session_id: the conversation; empty where there is none.
        previous: where the session's request before went; None where there is none.
        cached_tokens: of the prompt, that the model of `previous` has cached; at least 0.
        output_tokens: that the answer is expected to have; None where unknown.
        explain: whether the response says which parts of the prompt decided.
    """

    request_id: str
    prompt: Prompt
    policy: str
    threshold: float | None
    bundle: str
    tenant: str
    task: str
    session_id: str
    previous: Route | None
    cached_tokens: int
    output_tokens: int | None
    explain: bool


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one request went, in nanoseconds."""

    decode_ns: int
    queue_ns: int
    model_ns: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A `RouteResponse` in domain types; None where the server left a field out."""

    tier: str
    model: str
    p_match: float | None
    confidence: float | None
    threshold: float
    policy: str
    reason: str
    stage: str | None
    bundle: str


def read_request(raw: bytes, max_bytes: int) -> RouteCall:
    """Check and decode the bytes of a `RouteRequest`.

    Raises:
        InvalidRequest: more than `max_bytes`, undecodable, or without any content.
    """
    if len(raw) > max_bytes:
        raise InvalidRequest(f"the request has {len(raw)} bytes, at most {max_bytes} are allowed")
    try:
        request = pb.RouteRequest.FromString(raw)
    except DecodeError:  # its text may quote the bytes
        raise InvalidRequest("the request is not a turnout.v1.RouteRequest: undecodable or not UTF-8") from None
    if request.cached_tokens < 0 or request.expected_output_tokens < 0:
        raise InvalidRequest("cached_tokens, expected_output_tokens: expected 0 or more")
    return RouteCall(
        request_id=request.request_id,
        prompt=_prompt(request),
        policy=request.policy,
        threshold=request.threshold if request.HasField("threshold") else None,
        bundle=request.bundle,
        tenant=request.tenant,
        task=request.task,
        session_id=request.session_id,
        previous=TIERS.get(request.previous_tier),
        cached_tokens=request.cached_tokens,
        output_tokens=request.expected_output_tokens if request.HasField("expected_output_tokens") else None,
        explain=request.explain,
    )


def _prompt(request: Any) -> Prompt:
    match request.WhichOneof("content"):
        case "text":
            return prompt_from_text(request.text)
        case "messages":
            messages = [Message(message.role or "user", message.text) for message in request.messages.messages]
            return prompt_from_chat(ChatBody(messages))
        case "openai_body":
            return prompt_from_json(request.openai_body)
        case _:
            raise InvalidRequest("the request has no content: expected one of text, messages, openai_body")


def response(
    call: RouteCall,
    decision: Decision,
    bundle_id: str,
    costs: ExpectedCosts,
    timings: Timings,
    contributions: Iterable[Contribution] = (),
) -> Any:
    """Return the `RouteResponse` of a decision."""
    return pb.RouteResponse(
        request_id=call.request_id,
        tier=pb.Tier.Value(f"TIER_{decision.route.name}"),
        model=decision.model,
        p_match=decision.p_match,
        confidence=decision.confidence,
        threshold=decision.threshold,
        policy=decision.policy,
        reason=pb.Reason.Value(f"REASON_{decision.reason.name}"),
        stage=pb.Stage.Value(f"STAGE_{decision.stage.name}") if decision.stage else pb.STAGE_UNSPECIFIED,
        bundle=bundle_id,
        timings=pb.Timings(decode_ns=timings.decode_ns, queue_ns=timings.queue_ns, model_ns=timings.model_ns),
        route_propensity=decision.route_propensity,
        weak_cost_usd=costs.weak_usd,
        strong_cost_usd=costs.strong_usd,
        rule=decision.rule,
        contributions=[
            pb.Contribution(start=part.start, end=part.end, p_match_without=part.p_match_without)
            for part in contributions
        ],
    )


def request_of(
    *,
    text: str | None,
    messages: Sequence[Mapping[str, Any]] | None,
    openai_body: bytes | None,
    policy: str,
    threshold: float | None,
    request_id: str,
    bundle: str,
    tenant: str,
) -> Any:
    """Return the `RouteRequest` of a client's call.

    Raises:
        InvalidRequest: not exactly one of `text`, `messages` and `openai_body`.
        TypeError, ValueError: a value of a type that the field can't hold.
    """
    if sum(content is not None for content in (text, messages, openai_body)) != 1:
        raise InvalidRequest("expected exactly one of text, messages, openai_body")
    request = pb.RouteRequest(request_id=request_id, bundle=bundle, tenant=tenant)
    if threshold is not None:
        request.threshold = threshold
    elif policy:
        request.policy = policy
    if text is not None:
        request.text = clean_text(text)
    elif openai_body is not None:
        request.openai_body = openai_body
    elif messages is not None and _are_plain(messages):
        request.messages.messages.extend(_plain_message(message) for message in messages)
        request.messages.SetInParent()
    else:
        request.openai_body = msgspec.json.encode({"messages": messages})
    return request


def _are_plain(messages: Iterable[Mapping[str, Any]]) -> bool:
    return all(isinstance(message.get("content"), str | None) for message in messages)


def _plain_message(message: Mapping[str, Any]) -> Any:
    return pb.Message(role=message.get("role") or "user", text=clean_text(message.get("content") or ""))


def read_response(reply: Any) -> Answer | None:
    """Return what a `RouteResponse` says; None when it names no tier or no model."""
    if reply.tier not in TIERS or not reply.model:
        return None
    return Answer(
        tier=TIERS[reply.tier],
        model=reply.model,
        p_match=reply.p_match if reply.HasField("p_match") else None,
        confidence=reply.confidence if reply.HasField("confidence") else None,
        threshold=reply.threshold,
        policy=reply.policy,
        reason=_short_name(pb.Reason, reply.reason) or "RULE",  # a later server may know more reasons
        stage=_short_name(pb.Stage, reply.stage),
        bundle=reply.bundle,
    )


def _short_name(enum: Any, number: int) -> str | None:
    """Return `MODEL` for `REASON_MODEL`; None for the unspecified and for numbers of a later proto."""
    if number not in enum.values() or number == 0:
        return None
    return str(enum.Name(number)).partition("_")[2]
