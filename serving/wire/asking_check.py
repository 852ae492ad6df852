"""What a client asks of an answer and what it is told: `AnswerItem` to `CheckRequest`, `CheckResponse` to `Judged`.

Imports neither numpy nor onnxruntime: clients stay light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.prompt import clean_text
from turnout.serving.wire.asking import (
    TIERS,
    Routed,
    RouteItem,
    RungAsked,
    TierName,
    optional,
    request_of,
    rungs_asked,
    short_name,
)

VerdictName = Literal["accept", "escalate"]
VERDICTS: dict[int, VerdictName] = {pb.VERDICT_ACCEPT: "accept", pb.VERDICT_ESCALATE: "escalate"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerItem:
    """The weak model's answer and all that came with it; None and empty for what did not.

    Attributes:
        text: the answer's text.
        tool_calls: number of calls of tools in it.
        is_refusal: whether the vendor marks it as a refusal.
        finish_reason: the vendor's word, such as `stop` or `length`.
        token_logprobs: natural log-probability of each token.
        alternative_logprobs: of the most probable other token at each place, as many.
        mean_logprob: mean of the tokens' log-probabilities, where only that is known.
        self_check: log-probability that the weak model calls its answer right.
        prompt_tokens, completion_tokens: as the vendor counted them.
        latency_ms: that the weak model took.
    """

    text: str = ""
    tool_calls: int = 0
    is_refusal: bool = False
    finish_reason: str = ""
    token_logprobs: Sequence[float] = ()
    alternative_logprobs: Sequence[float] = ()
    mean_logprob: float | None = None
    self_check: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What is to become of the weak model's answer; always usable.

    Attributes:
        verdict: `accept` or `escalate`; the latter whenever checking failed.
        model: name of the model whose answer is to be shown.
        p_match: calibrated probability that the answer is not worse than the strong model's; None where unknown.
        confidence: that of the verdict; None where unknown.
        threshold: what `p_match` had to reach; None on failure.
        policy: the policy applied; empty on failure.
        reason: a reason of the contract such as `MODEL`, or `FALLBACK` when checking failed.
        head: `CHECKER`, `SIGNALS` or `NONE`; None when the second look did not run.
        bundle: `name/version` that answered; empty on failure.
        rule: name of the server's rule that applied.
        verdict_propensity: probability in (0, 1] of this verdict; None on failure.
        accept_cost_usd, escalate_cost_usd: of both ways; None where unknown.
        signals_used, signals_ignored: names of what counted, and of what came and did not.
        latency_ms: wall time of the call, as the caller saw it.
        fallback_reason: why there was no verdict; None when there was one.
        tier: `weak`, `strong` or `between`: that of `model`.
        rung: name of the rung of `model`; empty on failure.
        effort: its reasoning effort, to put into the request where it is escalated; empty for none.
        p_rungs: what decided on the rungs above the weak model, where that was asked for.
    """

    verdict: VerdictName
    model: str
    p_match: float | None = None
    confidence: float | None = None
    threshold: float | None = None
    policy: str = ""
    reason: str
    head: str | None = None
    bundle: str = ""
    rule: str = ""
    verdict_propensity: float | None = None
    accept_cost_usd: float | None = None
    escalate_cost_usd: float | None = None
    signals_used: tuple[str, ...] = ()
    signals_ignored: tuple[str, ...] = ()
    latency_ms: float
    fallback_reason: str | None = None
    tier: TierName = "strong"
    rung: str = ""
    effort: str = ""
    p_rungs: tuple[RungAsked, ...] = ()

    @property
    def is_accepted(self) -> bool:
        """Whether the weak model's answer may be shown."""
        return self.verdict == "accept"


def check_request(answer: AnswerItem, item: RouteItem, policy: str, bundle: str, routed: Routed | None = None) -> Any:
    """Return the `CheckRequest` of an answer; `policy` and `bundle` stand in where the item names none.

    Without content the item goes by its `request_id`.

    Raises:
        InvalidRequest: more than one content, or neither content nor id.
        TypeError, ValueError: a value that the field can't hold.
    """
    request = pb.CheckRequest(
        answer=pb.WeakAnswer(
            text=clean_text(answer.text),
            tool_calls=answer.tool_calls,
            is_refusal=answer.is_refusal,
            finish_reason=clean_text(answer.finish_reason),
        ),
        signals=pb.AnswerSignals(
            token_logprobs=answer.token_logprobs,
            alternative_logprobs=answer.alternative_logprobs,
            mean_logprob=answer.mean_logprob,
            self_check=answer.self_check,
        ),
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        latency_ms=answer.latency_ms,
    )
    if item.request_id and not any((item.text, item.messages, item.openai_body, item.anthropic_body)):
        request.request_id, request.tenant = item.request_id, item.tenant
        return request
    asked = request_of(item, policy, bundle)
    if routed is not None and routed.bundle:  # whichever bundle routed it checks it, a canary too
        asked.bundle = routed.bundle
    request.request.CopyFrom(asked)
    return request


def judged_of(reply: Any, latency_ms: float) -> Judged | None:
    """Return what a `CheckResponse` says; None when it names no verdict or no model."""
    if reply.verdict not in VERDICTS or not reply.model:
        return None
    return Judged(
        verdict=VERDICTS[reply.verdict],
        model=reply.model,
        p_match=optional(reply, "p_match"),
        confidence=optional(reply, "confidence"),
        threshold=reply.threshold,
        policy=reply.policy,
        reason=short_name(pb.Reason, reply.reason) or "RULE",
        head=_head(reply.head),
        bundle=reply.bundle,
        rule=reply.rule,
        verdict_propensity=reply.verdict_propensity or None,
        accept_cost_usd=optional(reply, "accept_cost_usd"),
        escalate_cost_usd=optional(reply, "escalate_cost_usd"),
        signals_used=tuple(reply.signals_used),
        signals_ignored=tuple(reply.signals_ignored),
        latency_ms=latency_ms,
        tier=TIERS.get(reply.tier) or ("between" if reply.rung else _end_of(VERDICTS[reply.verdict])),
        rung=reply.rung,
        effort=reply.effort,
        p_rungs=rungs_asked(reply.p_rungs),
    )


def _end_of(verdict: VerdictName) -> TierName:
    """Return the tier that a verdict of an older server shows."""
    return "weak" if verdict == "accept" else "strong"


def _head(number: int) -> str | None:
    name = short_name(pb.CheckHead, number)
    return None if name is None else name.removeprefix("HEAD_")
