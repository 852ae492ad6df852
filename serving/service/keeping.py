"""What is kept of an answer, by the mode of the decision log: its text, redacted or whole, or nothing.

Comes in: what a model answered. Goes out: the fields of a record that hold it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnout.serving.decision.routes import BYTES_PER_TOKEN, MAX_ESTIMATED_TOKENS
from turnout.serving.router.redaction import RULES_VERSION, redact
from turnout.serving.spool.check import MAX_REASON_CHARS
from turnout.serving.spool.decision import LogDecisions

if TYPE_CHECKING:
    from turnout.serving.wire.asking_check import AnswerItem

MAX_TEXT_BYTES = MAX_ESTIMATED_TOKENS * BYTES_PER_TOKEN
"""Longer texts are not kept: no training uses them."""


def kept_text(text: str, mode: LogDecisions) -> tuple[str | None, bool]:
    """Return what is kept of an answer's text, and whether one that was to be kept is left out for its length."""
    if mode not in (LogDecisions.FULL, LogDecisions.REDACTED):
        return None, False
    if len(text) * 4 > MAX_TEXT_BYTES and len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        return None, True
    return (redact(text) if mode is LogDecisions.REDACTED else text), False


def answer_fields(answer: AnswerItem, mode: LogDecisions) -> dict[str, Any]:
    """Return the fields of an `Outcome` that hold an answer; none where the mode keeps no text.

    An answer that calls tools is left out: without its calls it would be taken for an empty one.
    """
    if mode not in (LogDecisions.FULL, LogDecisions.REDACTED):
        return {}
    text, is_left_out = (None, True) if answer.tool_calls else kept_text(answer.text, mode)
    tokens = answer.token_logprobs
    return {
        "kept": str(mode),
        "text": text,
        "is_left_out": is_left_out,
        "redaction": RULES_VERSION if mode is LogDecisions.REDACTED else 0,
        "finish_reason": answer.finish_reason[:MAX_REASON_CHARS],
        "is_refusal": answer.is_refusal,
        "mean_logprob": sum(tokens) / len(tokens) if tokens else answer.mean_logprob,
        "self_check": answer.self_check,
    }
