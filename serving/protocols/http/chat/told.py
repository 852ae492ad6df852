"""What became of one chat completion, call by call: the `x-turnout-*` headers of its answer, and outcomes to report."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from turnout.serving.bundles.ladder import Rung
from turnout.serving.gateways.completions import summed_usage
from turnout.serving.protocols.http.chat.asked import ChatCall
from turnout.serving.wire.asking import Routed
from turnout.serving.wire.asking_check import AnswerItem, Judged
from turnout.serving.wire.outcome import OutcomeFields, outcome_request


@dataclass(frozen=True, slots=True)
class UpstreamCall:
    """One call of the upstream: whom, how it ended (`ok`, a status, or why there was none), and what it used.

    `rung` is the name of the rung; of a pair that of the model.
    """

    tier: str
    model: str
    result: str
    usage: Any = None
    latency_ms: float | None = None
    is_self_check: bool = False
    rung: str = ""


@dataclass(slots=True)
class CompletionSoFar:
    """All that is known of a completion so far.

    Attributes:
        streaming: set once the body of a stream has ended, whatever ended it; None where the answer came whole.
        answers: what either tier answered, where exploration wants both: the log keeps them as it keeps prompts.
    """

    asked: ChatCall
    routed: Routed
    judged: Judged | None = None
    calls: list[UpstreamCall] = field(default_factory=list)
    streaming: asyncio.Event | None = None
    answers: dict[str, AnswerItem] = field(default_factory=dict)

    @property
    def usage(self) -> dict[str, Any] | None:
        """Usage of all calls, as one."""
        return summed_usage(*(call.usage for call in self.calls))

    def used(self, usage: Any) -> None:
        """Take in the usage of the last call, which a stream says at its end."""
        self.calls[-1] = dataclasses.replace(self.calls[-1], usage=usage)

    def keep(
        self, tier: str, completion: Any, latency_ms: float | None = None, self_check: float | None = None
    ) -> None:
        """Take in what a tier answered, where exploration wants both answers; nothing of others is held."""
        if self.routed.wants_both and self.asked.dialect.is_answer(completion):
            self.answers[tier] = self.asked.dialect.answer_item(completion, latency_ms, self_check)

    def headers(self, rung: Rung) -> dict[str, str]:
        """Return the headers of an answer that comes from this rung."""
        routed, judged = self.routed, self.judged
        said: dict[str, Any] = {
            "request-id": self.asked.item.request_id,
            "model": rung.model,
            "rung": rung.name if rung.name != rung.model else None,
            "effort": rung.effort,
            "action": routed.action,
            "reason": routed.reason,
            "policy": routed.policy,
            "bundle": routed.bundle,
            "p-match": routed.p_match,
            "verdict": None if judged is None else judged.verdict,
            "p-match-checked": None if judged is None else judged.p_match,
            "head": None if judged is None else judged.head,
            "wants-both": "true" if routed.wants_both else None,
            "fallback-reason": routed.fallback_reason or (None if judged is None else judged.fallback_reason),
            "calls": ",".join(f"{call.rung or call.model}={call.result}" for call in self.calls),
        }
        return {f"x-turnout-{name}": _plain(value) for name, value in said.items() if value not in (None, "")}

    def outcomes(self, since: int = 0) -> Iterator[tuple[bytes, AnswerItem | None]]:
        """Return the bytes of a `ReportOutcomeRequest` for each call, with what the model answered where it is kept.

        Args:
            since: number of calls that were reported before. Self-checks are marked as such.
        """
        for call in self.calls[since:]:
            item = self.asked.item
            fields: OutcomeFields = {"tier": call.tier, "model": call.model, "bundle": self.routed.bundle}
            fields |= {"tenant": item.tenant, "session_id": item.session_id, "task": item.task}
            if call.rung not in ("", call.model):
                fields["rung"] = call.rung
            if call.is_self_check:
                fields["self_check"] = True
            if call.result != "ok":
                fields["error_code"] = call.result
            if call.latency_ms is not None:
                fields["latency_ms"] = call.latency_ms
            fields |= _counted(call.usage)
            is_answer = call.result == "ok" and not call.is_self_check
            answer = self.answers.get(call.tier) if is_answer else None
            yield bytes(outcome_request(item.request_id, fields).SerializeToString()), answer


def _counted(usage: Any) -> OutcomeFields:
    found: OutcomeFields = {}
    if not isinstance(usage, dict):  # whatever an upstream wrote there
        return found
    details = usage.get("prompt_tokens_details", usage.get("input_tokens_details"))
    counts = {
        "prompt_tokens": usage.get("prompt_tokens", usage.get("input_tokens")),
        "completion_tokens": usage.get("completion_tokens", usage.get("output_tokens")),
        "cached_tokens": details.get("cached_tokens") if isinstance(details, dict) else None,
    }
    for name, value in counts.items():
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40:
            found[name] = value  # type: ignore[literal-required]
    return found


def _plain(value: Any) -> str:
    """Return a header's value: one line of printable ASCII."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return "".join(character if " " <= character <= "~" else "?" for character in text)
