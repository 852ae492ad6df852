"""What a call of LiteLLM used, as an outcome for the ledger: LiteLLM's own log event in, the fields of a report out.

Imports nothing of LiteLLM: its events are mappings, and whatever is not of the expected form counts as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnout.serving.wire.outcome import OutcomeFields

LOGGED_METADATA = "spend_logs_metadata"
"""What of a request's metadata LiteLLM writes to its logs as it is."""
METADATA_KEY = "turnout"
"""Where the decision stands in it."""
MAX_TOKENS = 1 << 40


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
