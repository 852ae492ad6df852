"""Verdicts beside decisions: each request of the log with what the second look said of its weak answer.

Comes in: the table of decisions, and that of verdicts, as compaction has them. Goes out: the decisions with the columns
of `VERDICTS`, null where nobody checked. They are joined by request and tenant, the latest verdict counts; where a
request had no id, by the digest of its prompt, each verdict to the last decision before it.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from turnout.serving.spool.check import CheckRecord
from turnout.training.compaction.checks import CHECKS, check_table
from turnout.training.compaction.store import Store, read_table

VERDICTS = pa.schema(
    [
        ("verdict", pa.string()),
        ("p_match_checked", pa.float64()),
        ("accept_threshold", pa.float64()),
        ("check_reason", pa.string()),
        ("check_bundle", pa.string()),
        ("check_model", pa.string()),
        ("check_rung", pa.string()),
        ("self_check", pa.float64()),
        ("checked_prompt_tokens", pa.int64()),
        ("checked_completion_tokens", pa.int64()),
    ]
)
ANSWERS = pa.schema(
    [
        ("weak_response", pa.string()),
        ("weak_tool_calls", pa.int64()),
        ("weak_is_refusal", pa.bool_()),
        ("weak_finish_reason", pa.string()),
        ("weak_token_logprobs", pa.list_(pa.float32())),
        ("weak_top_margins", pa.list_(pa.float32())),
        ("weak_mean_logprob", pa.float64()),
    ]
)
"""The answers that were checked, for whoever checks them again; `VERDICTS` has their self-check."""

_FROM = {
    "accept_threshold": "threshold",
    "check_reason": "reason",
    "check_bundle": "bundle",
    "check_model": "model",
    "check_rung": "rung",
    "self_check": "weak_self_check",
    "checked_prompt_tokens": "weak_prompt_tokens",
    "checked_completion_tokens": "weak_completion_tokens",
}
"""Their names among the verdicts, where those are others."""

_KEYS = ("id", "tenant", "prompt_digest", "created")
_Row = dict[str, Any]
_READ = (*_KEYS, *(_FROM.get(name, name) for name in VERDICTS.names), *ANSWERS.names)


def stored_verdicts(log: Path) -> pa.Table:
    """Return the verdicts of a folder of compacted logs; none where it holds no such file."""
    empty = CHECKS.empty_table().select(_READ)
    if not log.is_dir():
        return empty
    stored = (read_table(path, list(_READ)) for path in Store(log).check_files())  # of those that each has
    return pa.concat_tables([empty, *stored], promote_options="default")


def verdicts_of(records: Sequence[CheckRecord]) -> pa.Table:
    """Return the verdicts of a spool's records."""
    return check_table(records).select(_READ)


def with_verdicts(decisions: pa.Table, verdicts: pa.Table, *, with_answers: bool = False) -> pa.Table:
    """Return the decisions with their verdicts, and with the columns of `ANSWERS` where those are wanted."""
    keys = [name for name in _KEYS if name in decisions.column_names]
    found = _matched(decisions.select(keys).to_pylist(), sorted(verdicts.to_pylist(), key=lambda one: one["created"]))
    for field in (*VERDICTS, *(ANSWERS if with_answers else ())):
        name = _FROM.get(field.name, field.name)
        column = pa.array([None if one is None else one[name] for one in found], field.type)
        decisions = decisions.append_column(field, column)
    return decisions


def _matched(decisions: list[_Row], verdicts: list[_Row]) -> list[_Row | None]:
    """Return the verdict of each decision; verdicts come in the order of their time."""
    by_id = {(one["id"], one["tenant"] or ""): one for one in verdicts if one["id"]}
    found = [by_id.get((row["id"], row.get("tenant") or "")) if row.get("id") else None for row in decisions]
    places: dict[bytes, list[int]] = defaultdict(list)
    for place in sorted(range(len(decisions)), key=lambda place: decisions[place]["created"]):
        if not decisions[place].get("id"):
            places[decisions[place].get("prompt_digest") or b""].append(place)
    for one in verdicts:
        waiting = [] if one["id"] else places.get(one["prompt_digest"] or b"", [])
        last = bisect.bisect_right(waiting, one["created"], key=lambda place: decisions[place]["created"]) - 1
        if last >= 0:
            found[waiting.pop(last)] = one
    return found
