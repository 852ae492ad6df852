"""Verdicts as rows of compacted logs: from spool records to columns, one row a verdict.

They stand beside the decisions and are joined to them by `id`, or by `prompt_digest` where a request had none. What was
kept of the weak model's answer is in `weak_response`; its signals have the names that `train` reads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from turnout.serving.spool.check import CheckRecord

CHECKS = pa.schema(
    [
        ("id", pa.string()),
        ("created", pa.float64()),
        ("tenant", pa.string()),
        ("task", pa.string()),
        ("session_id", pa.string()),
        ("prompt_digest", pa.binary(16)),
        ("verdict", pa.string()),
        ("model", pa.string()),
        ("p_match_checked", pa.float64()),
        ("threshold", pa.float64()),
        ("policy", pa.string()),
        ("reason", pa.string()),
        ("head", pa.string()),
        ("bundle", pa.string()),
        ("rule", pa.string()),
        ("accept_cost_usd", pa.float64()),
        ("escalate_cost_usd", pa.float64()),
        ("signals_used", pa.list_(pa.string())),
        ("signals_ignored", pa.list_(pa.string())),
        ("weak_response", pa.string()),
        ("answer_kept", pa.string()),
        ("answer_left_out", pa.bool_()),
        ("redaction_rules", pa.int32()),
        ("answer_characters", pa.int64()),
        ("weak_tool_calls", pa.int64()),
        ("weak_is_refusal", pa.bool_()),
        ("weak_finish_reason", pa.string()),
        ("weak_token_logprobs", pa.list_(pa.float32())),
        ("weak_top_margins", pa.list_(pa.float32())),
        ("weak_mean_logprob", pa.float64()),
        ("weak_self_check", pa.float64()),
        ("weak_prompt_tokens", pa.int64()),
        ("weak_completion_tokens", pa.int64()),
        ("weak_latency_ms", pa.float64()),
        ("rung", pa.string()),
    ]
)
"""New columns come last."""


def check_table(checks: Sequence[CheckRecord]) -> pa.Table:
    """Return verdicts as rows."""
    return pa.Table.from_pylist([_row(one) for one in checks], schema=CHECKS)


def _row(one: CheckRecord) -> dict[str, object]:
    same = ("verdict", "model", "p_match_checked", "threshold", "policy", "reason", "bundle")
    costs = ("accept_cost_usd", "escalate_cost_usd")
    return {
        "id": one.request_id or None,
        "created": one.checked_s,
        "tenant": one.tenant or None,
        "task": one.task or None,
        "session_id": one.session_id or None,
        "prompt_digest": one.digest,
        **{name: getattr(one, name) for name in (*same, *costs)},
        "head": one.head or None,
        "rule": one.rule or None,
        "signals_used": list(one.signals_used),
        "signals_ignored": list(one.signals_ignored),
        "weak_response": one.text,
        "answer_kept": one.kept,
        "answer_left_out": one.is_left_out,
        "redaction_rules": one.redaction or None,
        "answer_characters": one.characters,
        "weak_tool_calls": one.tool_calls,
        "weak_is_refusal": one.is_refusal,
        "weak_finish_reason": one.finish_reason or None,
        "weak_token_logprobs": _unpacked(one.token_logprobs),
        "weak_top_margins": _unpacked(one.top_margins),
        "weak_mean_logprob": one.mean_logprob,
        "weak_self_check": one.self_check,
        "weak_prompt_tokens": one.prompt_tokens,
        "weak_completion_tokens": one.completion_tokens,
        "weak_latency_ms": one.latency_ms,
        "rung": one.rung or None,
    }


def _unpacked(raw: bytes) -> object:
    return np.frombuffer(raw, "<f4") if raw else None
