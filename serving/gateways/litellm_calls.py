"""What LiteLLM logs of a decision, and what its call used, as an outcome for the ledger.

Comes in: decisions and verdicts; LiteLLM's own log event. Goes out: what its logs keep; the fields of a report. Imports
nothing of LiteLLM: its events are mappings, and whatever is not of the expected form counts as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnout.serving.wire.asking import Routed, RouteFields
from turnout.serving.wire.asking_check import Judged
from turnout.serving.wire.outcome import OutcomeFields

LOGGED_METADATA = "spend_logs_metadata"
"""What of a request's metadata LiteLLM writes to its logs as it is."""
METADATA_KEY = "turnout"
"""Where the decision stands in it."""
MAX_TOKENS = 1 << 40


def decision_of(
    routed: Routed, item: RouteFields, judged: Judged | None = None, *, is_escalated: bool = False
) -> dict[str, Any]:
    """Return what LiteLLM's logs keep of a decision; nothing of the prompt or of an answer.

    Args:
        routed: the decision.
        item: what was asked.
        judged: the verdict on the answer, where it was tried.
        is_escalated: whether the call is that of the model that the verdict names.
    """
    checked = {} if judged is None else {"verdict": judged.verdict, "p_match_checked": judged.p_match}
    answers = judged if judged is not None and is_escalated else routed
    return {
        "request_id": item.get("request_id", ""),
        "tenant": item.get("tenant", ""),
        "session_id": item.get("session_id", ""),
        "action": routed.action,
        "tier": answers.tier,
        "model": answers.model,
        **({} if answers.rung in ("", answers.model) else {"rung": answers.rung, "effort": answers.effort}),
        "reason": routed.reason,
        "p_match": routed.p_match,
        "threshold": routed.threshold,
        "policy": routed.policy,
        "bundle": routed.bundle,
        "latency_ms": round(routed.latency_ms, 3),
        "fallback_reason": routed.fallback_reason,
        **checked,
    }


def outcome_of(event: Mapping[str, Any], response: Any) -> tuple[str, OutcomeFields] | None:
    """Return the request id and what to report of a call that succeeded; None where Turnout did not route it.

    Args:
        event: the `kwargs` of LiteLLM's log event.
        response: the model's answer, a stream's put together.
    """
    payload = _mapping(event.get("standard_logging_object"))
    decision = _mapping(_mapping(_mapping(payload.get("metadata")).get(LOGGED_METADATA)).get(METADATA_KEY))
    request_id, routed = decision.get("request_id"), decision.get("model")
    if not (isinstance(request_id, str) and request_id and isinstance(routed, str)):
        return None
    answered = payload.get("model_group")  # another one than was routed to, where LiteLLM itself fell back
    fields: OutcomeFields = {"model": answered if isinstance(answered, str) and answered else routed}
    if fields["model"] == routed and decision.get("tier") in ("weak", "strong"):
        fields["tier"] = decision["tier"]
    if fields["model"] == routed and isinstance(decision.get("rung"), str):
        fields["rung"] = decision["rung"]
    for name in ("tenant", "session_id", "bundle"):
        if isinstance(decision.get(name), str):
            fields[name] = decision[name]
    return request_id, fields | _counts(response) | _milliseconds(payload)


def _counts(response: Any) -> OutcomeFields:
    dump = getattr(response, "model_dump", None)
    usage = _mapping(_mapping(dump() if callable(dump) else response).get("usage"))
    details = _mapping(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    counts = {
        "prompt_tokens": usage.get("prompt_tokens", usage.get("input_tokens")),
        "completion_tokens": usage.get("completion_tokens", usage.get("output_tokens")),
        "cached_tokens": details.get("cached_tokens"),
    }
    found: OutcomeFields = {}
    for name, count in counts.items():
        if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < MAX_TOKENS:
            found[name] = count  # type: ignore[literal-required]
    return found


def _milliseconds(payload: Mapping[str, Any]) -> OutcomeFields:
    seconds = payload.get("response_time")
    return {"latency_ms": 1e3 * seconds} if isinstance(seconds, int | float) and 0 <= seconds < 1e6 else {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
