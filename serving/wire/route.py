"""Where the messages of one request meet the server's types: bytes to `RouteCall`, `Decision` to `RouteResponse`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from google.protobuf.message import DecodeError

from turnout.serving.decision.costs import ExpectedCosts
from turnout.serving.decision.routes import Action, Route
from turnout.serving.errors import InvalidRequest
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.prompt import (
    ChatBody,
    Message,
    Prompt,
    prompt_from_chat,
    prompt_from_json,
    prompt_from_text,
)

if TYPE_CHECKING:
    from turnout.serving.bundles.ladder import Rung
    from turnout.serving.decision.decision import Decision  # brings onnxruntime
    from turnout.serving.decision.rungs import RungLook
    from turnout.serving.router.explain import Contribution

SERVICE_NAME = "turnout.v1.RouterService"
ROUTE_METHOD = f"/{SERVICE_NAME}/Route"
ROUTE_BATCH_METHOD = f"/{SERVICE_NAME}/RouteBatch"
ROUTE_STREAM_METHOD = f"/{SERVICE_NAME}/RouteStream"
REPORT_OUTCOME_METHOD = f"/{SERVICE_NAME}/ReportOutcome"
CHECK_METHOD = f"/{SERVICE_NAME}/Check"
CHECK_BATCH_METHOD = f"/{SERVICE_NAME}/CheckBatch"
CHECK_STREAM_METHOD = f"/{SERVICE_NAME}/CheckStream"
DESCRIBE_MODEL_METHOD = f"/{SERVICE_NAME}/DescribeModel"

TIERS = {pb.TIER_WEAK: Route.WEAK, pb.TIER_STRONG: Route.STRONG}

# Words of a decision to numbers of the proto: their names, looked up by the library, took a third of a reply's time.
_TIERS = {route: number for number, route in TIERS.items()}
_ACTIONS: dict[str, Any] = {action: pb.Action.Value(f"ACTION_{action.name}") for action in Action}
_REASONS: dict[str, Any] = {name.removeprefix("REASON_"): number for name, number in pb.Reason.items()}
_STAGES: dict[str, Any] = {name.removeprefix("STAGE_"): number for name, number in pb.Stage.items()}


class RouteCall(msgspec.Struct, frozen=True, gc=False):
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
        can_check: whether the caller will have the weak model's answer checked when asked to.
        per_rung: whether the response says p, threshold and cost of each rung.
        previous_rung: name of the rung that the session's request before went to; empty where `previous` tells.
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
    can_check: bool = False
    per_rung: bool = False
    previous_rung: str = ""


class Timings(msgspec.Struct, frozen=True, gc=False):
    """Where the time of one request went, in nanoseconds."""

    decode_ns: int
    queue_ns: int
    model_ns: int


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
    return call_of(request)


def call_of(request: Any) -> RouteCall:
    """Return what a `RouteRequest` asks; raises `InvalidRequest` where it has no content, or a count below 0."""
    if request.cached_tokens < 0 or request.expected_output_tokens < 0:
        raise InvalidRequest("cached_tokens, expected_output_tokens: expected 0 or more")
    explain = request.explain
    return RouteCall(  # in its order, which takes half the time of names
        request.request_id,
        _prompt(request),
        request.policy,
        request.threshold if request.HasField("threshold") else None,
        request.bundle,
        request.tenant,
        request.task,
        request.session_id,
        TIERS.get(request.previous_tier),
        request.cached_tokens,
        request.expected_output_tokens if request.HasField("expected_output_tokens") else None,
        explain,
        request.can_check,
        explain or request.per_rung,
        request.previous_rung,
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
        case "anthropic_body":
            return prompt_from_json(request.anthropic_body, "anthropic_body")
        case _:
            raise InvalidRequest(
                "the request has no content: expected one of text, messages, openai_body, anthropic_body"
            )


def response(
    call: RouteCall,
    decision: Decision,
    bundle_id: str,
    costs: ExpectedCosts,
    timings: Timings,
    contributions: Iterable[Contribution] = (),
    looks: Sequence[RungLook] = (),
) -> Any:
    """Return the `RouteResponse` of a decision; field by field, which takes a third of what keyword arguments do.

    `looks` are its rungs, where they were asked for.
    """
    found = pb.RouteResponse(p_match=decision.p_match, confidence=decision.confidence)
    found.request_id = call.request_id
    if not decision.is_between:
        found.tier = _TIERS[decision.route]
    found.model = decision.model
    found.threshold = decision.threshold
    found.policy = decision.policy
    found.reason = _REASONS[decision.reason]
    if decision.stage is not None:
        found.stage = _STAGES[decision.stage]
    found.bundle = bundle_id
    timed = found.timings
    timed.decode_ns, timed.queue_ns, timed.model_ns = timings.decode_ns, timings.queue_ns, timings.model_ns
    found.route_propensity = decision.route_propensity
    if costs.weak_usd is not None:
        found.weak_cost_usd = costs.weak_usd
    if costs.strong_usd is not None:
        found.strong_cost_usd = costs.strong_usd
    found.rule = decision.rule
    for part in contributions:
        found.contributions.add(start=part.start, end=part.end, p_match_without=part.p_match_without)
    found.wants_both = decision.wants_both
    found.pair_propensity = decision.pair_propensity
    found.check_wanted = decision.is_tried
    found.action = _ACTIONS[decision.action]
    found.rung = decision.rung
    if decision.effort:
        found.effort = decision.effort
    if looks:
        found.p_rungs.extend(rung_looks(looks))
    if decision.other is not None:
        found.other.CopyFrom(rung_message(decision.other))
    return found


def rung_message(rung: Rung, **more: Any) -> Any:
    """Return the `Rung` of a rung of a ladder."""
    return pb.Rung(name=rung.name, model=rung.model, effort=rung.effort, **more)


def rung_looks(looks: Iterable[RungLook]) -> list[Any]:
    """Return the `RungLook` of each rung."""
    return [
        pb.RungLook(
            rung=one.rung.name,
            model=one.rung.model,
            effort=one.rung.effort,
            p=one.p,
            threshold=one.threshold,
            cost_usd=one.usd,
            is_offered=one.is_offered,
        )
        for one in looks
    ]
