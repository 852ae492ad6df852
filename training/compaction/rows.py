"""Rows of compacted logs: from spool records to the columns that `training.logs.rows` reads, and those of our own.

A row of decisions is one request with the answer of the model that it went to, where an outcome says how good it
was; with outcomes of both models it holds both. `label` and `train` read it where the prompt was kept, `train` and
`retrain` also where its features were (`turnout.training.dataset.digests`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import pyarrow as pa

from turnout.serving.spool.decision import DecisionRecord
from turnout.serving.spool.outcome import Outcome

DECISIONS = pa.schema(
    [
        ("id", pa.string()),
        ("created", pa.float64()),
        ("tenant", pa.string()),
        ("task", pa.string()),
        ("session_id", pa.string()),
        ("prompt", pa.string()),
        ("prompt_turns", pa.int32()),
        ("prompt_images", pa.int32()),
        ("prompt_tools", pa.int32()),
        ("prompt_wants_json", pa.bool_()),
        ("prompt_kept", pa.string()),
        ("prompt_left_out", pa.bool_()),
        ("prompt_digest", pa.binary(16)),
        ("redaction_rules", pa.int32()),
        ("estimated_tokens", pa.int64()),
        ("route", pa.string()),
        ("model", pa.string()),
        ("p_match", pa.float64()),
        ("threshold", pa.float64()),
        ("policy", pa.string()),
        ("reason", pa.string()),
        ("stage", pa.string()),
        ("bundle", pa.string()),
        ("rule", pa.string()),
        ("route_propensity", pa.float64()),
        ("weak_cost_usd", pa.float64()),
        ("strong_cost_usd", pa.float64()),
        ("lexical_buckets", pa.list_(pa.uint32())),
        ("lexical_counts", pa.list_(pa.uint16())),
        ("structural", pa.list_(pa.float32())),
        ("feature_schema", pa.int32()),
        ("responses", pa.string()),
        ("preference", pa.string()),
        ("error_code", pa.string()),
        ("outcome_received", pa.float64()),
        ("wants_both", pa.bool_()),
        ("pair_propensity", pa.float64()),
        ("exploration", pa.string()),
        ("other_model", pa.string()),
        ("harness_rules", pa.int32()),
        ("dense", pa.list_(pa.float32())),
        ("encoder_sha256", pa.string()),
        ("tokenizer_sha256", pa.string()),
        ("text_key", pa.binary(8)),
        ("key_salt", pa.string()),
        ("prompt_characters", pa.int64()),
        ("prompt_script", pa.string()),
        ("action", pa.string()),
        ("can_check", pa.bool_()),
        ("rung", pa.string()),
        ("rungs", pa.list_(pa.string())),
        ("p_rungs", pa.list_(pa.float64())),
        ("t_rungs", pa.list_(pa.float64())),
        ("usd_rungs", pa.list_(pa.float64())),
        ("other_rung", pa.string()),
        ("chosen_rung", pa.string()),
        ("take_rungs", pa.list_(pa.float64())),
        ("ask_rungs", pa.list_(pa.float64())),
        ("both_propensity", pa.float64()),
    ]
)
"""New columns come last: files of before lack them, and whoever reads several fills them with null."""

OF_LADDERS = DECISIONS.names[DECISIONS.get_field_index("rung") :]
"""Columns that are null for a pair, whose two models say it."""

JOINED = ("responses", "preference", "error_code", "outcome_received")
"""Columns that outcomes fill; the others never change once written."""

OUTCOMES = pa.schema(
    [
        ("request_id", pa.string()),
        ("received_s", pa.float64()),
        ("tier", pa.string()),
        ("model", pa.string()),
        ("score", pa.float64()),
        ("preference", pa.string()),
        ("error_code", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("latency_ms", pa.float64()),
        ("bundle", pa.string()),
        ("tenant", pa.string()),
        ("session_id", pa.string()),
        ("task", pa.string()),
        ("is_self_check", pa.bool_()),
        ("kept", pa.string()),
        ("text", pa.string()),
        ("is_left_out", pa.bool_()),
        ("redaction", pa.int32()),
        ("finish_reason", pa.string()),
        ("is_refusal", pa.bool_()),
        ("mean_logprob", pa.float64()),
        ("self_check", pa.float64()),
        ("rung", pa.string()),
    ]
)
"""New columns come last: files of before lack them, and their outcomes have the defaults of `Outcome`."""


def day(created_s: float) -> dt.date:
    """Return the UTC day of a moment in seconds since 1970."""
    return dt.datetime.fromtimestamp(created_s, dt.UTC).date()


def decision_table(decisions: Sequence[DecisionRecord]) -> pa.Table:
    """Return decisions as rows, not joined yet: the columns of `JOINED` are null."""
    return pa.Table.from_pylist([_decision_row(one) for one in decisions], schema=DECISIONS)


def outcome_table(outcomes: Iterable[Outcome]) -> pa.Table:
    """Return outcomes as rows."""
    return pa.Table.from_pylist([msgspec.structs.asdict(one) for one in outcomes], schema=OUTCOMES)


def outcomes_of(table: pa.Table) -> list[Outcome]:
    """Return the outcomes of a table, as `outcome_table` took them; of one of before, too."""
    return [Outcome(**{name: value for name, value in row.items() if value is not None}) for row in table.to_pylist()]


def _decision_row(one: DecisionRecord) -> dict[str, object]:
    has_features = one.feature_schema > 0
    return {
        "id": one.request_id or None,
        "created": one.decided_s,
        "tenant": one.tenant or None,
        "task": one.task or None,
        "session_id": one.session_id or None,
        "prompt": one.text,
        "prompt_turns": one.turns,
        "prompt_images": one.images,
        "prompt_tools": one.tools,
        "prompt_wants_json": one.wants_json,
        "prompt_kept": one.kept,
        "prompt_left_out": one.is_left_out,
        "prompt_digest": one.digest,
        "redaction_rules": one.redaction or None,
        "estimated_tokens": one.tokens,
        **{
            name: getattr(one, name)
            for name in ("route", "model", "p_match", "threshold", "policy", "reason", "bundle", "route_propensity")
        },
        "stage": one.stage or None,
        "rule": one.rule or None,
        "weak_cost_usd": one.weak_cost_usd,
        "strong_cost_usd": one.strong_cost_usd,
        "lexical_buckets": np.frombuffer(one.buckets, "<u4") if has_features else None,
        "lexical_counts": np.frombuffer(one.counts, "<u2") if has_features else None,
        "structural": np.frombuffer(one.structural, "<f4") if has_features else None,
        "feature_schema": one.feature_schema or None,
        "wants_both": one.wants_both,
        "pair_propensity": one.pair_propensity or None,  # null: both answers were never asked for
        "exploration": one.exploration or None,
        "other_model": one.other_model or None,
        "action": one.action or None,
        "can_check": one.can_check,
        "harness_rules": one.harness_rules if has_features else None,
        **_lesson_columns(one),
        **({name: getattr(one, name) or None for name in OF_LADDERS} if one.rungs else {}),
    }


def _lesson_columns(one: DecisionRecord) -> dict[str, object]:
    """Return what a row without text can be learned from; nothing where the log holds no vector."""
    if not one.dense:
        return {}
    return {
        "dense": np.frombuffer(one.dense, "<f4"),
        "encoder_sha256": one.encoder_sha256,
        "tokenizer_sha256": one.tokenizer_sha256,
        "text_key": one.text_key,
        "key_salt": one.key_salt,
        "prompt_characters": one.characters,
        "prompt_script": one.script,
    }
