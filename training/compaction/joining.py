"""Joins decisions with their outcomes by request id: rows in, the same rows with the columns of `JOINED` filled out.

A pure function of the decisions and of all outcomes known: joining twice, or outcomes that came twice (they are
kept at least once), gives the same rows. Of several outcomes for one model the latest counts, field by field: a score
that comes later leaves the tokens that a gateway reported. What a self-check used stands beside the answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from turnout.serving.bundles.ladder import rung_of
from turnout.serving.decision.model_names import is_model
from turnout.serving.decision.routes import Route
from turnout.serving.spool.outcome import Outcome
from turnout.training.compaction.rows import DECISIONS, JOINED

ByRequest = Mapping[str, Sequence[Outcome]]
_KEYS = ("id", "tenant", "model", "route", "other_model", "rung", "rungs", "other_rung")
_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens")


def by_request(outcomes: Iterable[Outcome]) -> ByRequest:
    """Return outcomes by request id, each list in the order of their receipt."""
    found: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in sorted(outcomes, key=lambda one: one.received_s):
        found[outcome.request_id].append(outcome)
    return found


def joined(table: pa.Table, outcomes: ByRequest) -> pa.Table:
    """Return the decisions with what is known of them now."""
    known = [name for name in _KEYS if name in table.column_names]
    keys = table.select(known).to_pylist()
    filled = [_columns(row, _of(row["id"], row["tenant"], outcomes)) for row in keys]
    for name in JOINED:
        index = table.schema.get_field_index(name)
        column = pa.array([row.get(name) for row in filled], DECISIONS.field(name).type)
        table = table.set_column(index, DECISIONS.field(name), column)
    return table


def _of(request_id: str | None, tenant: str | None, outcomes: ByRequest) -> list[Outcome]:
    """Return the outcomes of a request; one that names another tenant is not its own."""
    return [one for one in outcomes.get(request_id or "", ()) if one.tenant in ("", tenant or "")]


def _columns(decision: Mapping[str, Any], outcomes: Sequence[Outcome]) -> dict[str, object]:
    if not outcomes:
        return {}
    model = decision["model"]
    answers: dict[str | None, list[Outcome]] = defaultdict(list)
    for one in outcomes:
        answers[_model(one, decision)].append(one)
    preferences = [one.preference for one in outcomes if one.preference]
    errors = [one.error_code for one in outcomes if one.error_code and one.model in ("", model)]
    return {
        "responses": msgspec.json.encode(
            {name: _answer(of_model) for name, of_model in answers.items()}, order="sorted"
        ).decode(),
        "preference": preferences[-1] if preferences else None,
        "error_code": errors[-1] if errors else None,
        "outcome_received": outcomes[-1].received_s,
    }


def _model(outcome: Outcome, decision: Mapping[str, Any]) -> str | None:
    """Return who answered: as named, else by the tier, which with `wants_both` may be either; of a ladder the rung."""
    if names := decision.get("rungs"):
        return outcome.rung if outcome.rung in names else _rung(outcome, names, decision)
    own: str | None = decision["model"]
    if not outcome.model and outcome.tier not in ("", decision["route"]):
        return decision.get("other_model") or own
    return outcome.model or own


def _rung(outcome: Outcome, names: Sequence[str], decision: Mapping[str, Any]) -> str:
    """Return the rung that answered, by its model or tier; of several of one model the one that was asked.

    The weak tier is the rung that is compared with the top, as in `turnout.serving.observe.drift.watch`.
    """
    asked = [name for name in (decision.get("rung"), decision.get("other_rung")) if name]
    if outcome.model:
        own = [name for name in (*asked, *names) if is_model(outcome.model, rung_of(name).model)]
        return own[0] if own else outcome.model
    if outcome.tier == Route.STRONG:
        return names[-1]
    if outcome.tier == Route.WEAK:
        return next((name for name in asked if name != names[-1]), names[0])
    return asked[0] if asked else names[-1]


def _answer(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Return what a model answered as `turnout.training.logs.rows` reads it: score and usage, and what was kept of it.

    Args:
        outcomes: of one model, at least one, in the order of their receipt.
    """
    own = [one for one in outcomes if not one.is_self_check]
    checks = [_usage(one) for one in outcomes if one.is_self_check and one.prompt_tokens is not None]
    usages = [_usage(one) for one in own if one.prompt_tokens is not None or one.completion_tokens is not None]
    found: dict[str, object] = {
        "score": _latest(one.score for one in own),
        "usage": usages[-1] if usages else dict.fromkeys(_TOKENS),
        "latency_ms": _latest(one.latency_ms for one in own),
    }
    found |= {"self_check_usage": checks[-1]} if checks else {}
    return found | _kept(next((one for one in reversed(own) if one.text is not None), None))


def _kept(outcome: Outcome | None) -> dict[str, object]:
    """Return what was kept of an answer and came with it; nothing where none was."""
    if outcome is None:
        return {}
    text = {"content": None, "refusal": outcome.text} if outcome.is_refusal else {"content": outcome.text}
    beside = {"mean_logprob": outcome.mean_logprob, "self_check": outcome.self_check}
    known = {name: value for name, value in beside.items() if value is not None}
    return {**text, "finish_reason": outcome.finish_reason or None, **known}


def _usage(outcome: Outcome) -> dict[str, int | None]:
    return {name: getattr(outcome, name) for name in _TOKENS}


def _latest(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return known[-1] if known else None
