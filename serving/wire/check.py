"""Where the messages of `Check` meet the server's types: bytes to `CheckCall`, a `Judgement` to `CheckResponse`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from turnout.serving.decision.routes import Reason, Route, Verdict
from turnout.serving.errors import InvalidRequest
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.answer import Answer, Signals
from turnout.serving.wire.route import RouteCall, Timings, call_of, rung_looks
from turnout.serving.wire.signals import signals_of

if TYPE_CHECKING:
    from turnout.serving.decision.rungs import RungLook  # brings onnxruntime


@dataclass(frozen=True, slots=True)
class CheckCall:
    """A `CheckRequest` in domain types.

    Attributes:
        call: the request that was answered; None where only its id is given.
        request_id, tenant: by which the server is to find the request where `call` is None.
        answer: the weak model's.
        signals: that came with it and can be true.
        ignored: names of those that can't.
        prompt_tokens, completion_tokens: as the vendor counted them; None where unknown.
        latency_ms: that the weak model took; None where unknown.
    """

    call: RouteCall | None
    request_id: str
    tenant: str
    answer: Answer
    signals: Signals
    ignored: tuple[str, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to become of an answer.

    Attributes:
        verdict: accept or escalate.
        model: name of the model whose answer is to be shown.
        p_match: calibrated, in (0, 1); None where nothing vouches for it, or the second look did not run.
        threshold: that it had to reach; `NEVER` where nothing does.
        policy: name of the policy.
        reason: what decided.
        head: `CHECKER`, `SIGNALS` or `NONE`; empty where the second look did not run.
        rule: name of the rule that applied; empty for none.
        accept_usd, escalate_usd: costs of both ways, the weak answer counted in both; None without a price.
        used, ignored: names of signals.
        rung: name of the rung of `model`.
        effort: its reasoning effort; empty for none.
        looks: of each rung, where they were asked for.
        tier: of `model`; None for a rung between.
    """

    verdict: Verdict
    model: str
    p_match: float | None
    threshold: float
    policy: str
    reason: Reason
    head: str = ""
    rule: str = ""
    accept_usd: float | None = None
    escalate_usd: float | None = None
    used: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    rung: str = ""
    effort: str = ""
    looks: tuple[RungLook, ...] = ()
    tier: Route | None = None

    @property
    def confidence(self) -> float | None:
        """Probability that the verdict is right; None without `p_match`."""
        if self.p_match is None:
            return None
        return self.p_match if self.verdict is Verdict.ACCEPT else 1.0 - self.p_match


def read_check(raw: bytes, max_bytes: int) -> CheckCall:
    """Check and decode the bytes of a `CheckRequest`.

    Raises:
        InvalidRequest: more than `max_bytes`, undecodable, without a request, or with a count below 0.
    """
    if len(raw) > max_bytes:
        raise InvalidRequest(f"the request has {len(raw)} bytes, at most {max_bytes} are allowed")
    try:
        request = pb.CheckRequest.FromString(raw)
    except DecodeError:  # its text may quote the bytes
        raise InvalidRequest("the request is not a turnout.v1.CheckRequest: undecodable or not UTF-8") from None
    asked = request.WhichOneof("asked")
    if asked is None or (asked == "request_id" and not request.request_id):
        raise InvalidRequest("expected the request that was answered, or its request_id")
    _check_numbers(request)
    said = request.answer
    answer = Answer(said.text, said.tool_calls, said.is_refusal, said.finish_reason)
    signals, ignored = signals_of(request.signals, answer)
    call = call_of(request.request) if asked == "request" else None
    return CheckCall(
        call=call,
        request_id=request.request_id if call is None else call.request_id,
        tenant=request.tenant if call is None else call.tenant,
        answer=answer,
        signals=signals,
        ignored=ignored,
        prompt_tokens=request.prompt_tokens if request.HasField("prompt_tokens") else None,
        completion_tokens=request.completion_tokens if request.HasField("completion_tokens") else None,
        latency_ms=request.latency_ms if request.HasField("latency_ms") else None,
    )


def check_response(request_id: str, judged: Judgement, bundle_id: str, timings: Timings) -> Any:
    """Return the `CheckResponse` of a judgement."""
    return pb.CheckResponse(
        request_id=request_id,
        verdict=f"VERDICT_{judged.verdict.name}",
        model=judged.model,
        p_match=judged.p_match,
        confidence=judged.confidence,
        threshold=judged.threshold,
        policy=judged.policy,
        reason=f"REASON_{judged.reason.name}",
        head=f"CHECK_HEAD_{judged.head}" if judged.head else pb.CHECK_HEAD_UNSPECIFIED,
        bundle=bundle_id,
        timings=pb.Timings(decode_ns=timings.decode_ns, queue_ns=timings.queue_ns, model_ns=timings.model_ns),
        verdict_propensity=1.0,
        accept_cost_usd=judged.accept_usd,
        escalate_cost_usd=judged.escalate_usd,
        rule=judged.rule,
        signals_used=judged.used,
        signals_ignored=judged.ignored,
        rung=judged.rung,
        effort=judged.effort,
        p_rungs=rung_looks(judged.looks),
        tier=pb.TIER_UNSPECIFIED if judged.tier is None else f"TIER_{judged.tier.name}",
    )


def _check_numbers(request: Any) -> None:
    for name in ("prompt_tokens", "completion_tokens"):
        if getattr(request, name) < 0:
            raise InvalidRequest(f"{name}: expected 0 or more, got {getattr(request, name)}")
    if request.answer.tool_calls < 0:
        raise InvalidRequest(f"answer.tool_calls: expected 0 or more, got {request.answer.tool_calls}")
    if not (math.isfinite(request.latency_ms) and request.latency_ms >= 0):
        raise InvalidRequest(f"latency_ms: expected milliseconds, 0 or more, got {request.latency_ms}")
