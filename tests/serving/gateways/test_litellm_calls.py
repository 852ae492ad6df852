"""What LiteLLM's log events become: an outcome of the routed call, of whatever form the event is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.serving.gateways.litellm_calls import decision_of, outcome_of
from turnout.serving.wire.asking import Routed
from turnout.serving.wire.asking_check import Judged

DECISION = {"request_id": "r", "tenant": "shop", "session_id": "s", "bundle": "tiny/1", "model": "gpt-4o-mini"}
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


def event(decision: Any, **payload: Any) -> dict[str, Any]:
    metadata = {"spend_logs_metadata": {"turnout": decision}}
    return {"standard_logging_object": {"metadata": metadata, "response_time": 0.25} | payload}


LOW = Routed(model="gpt-5", tier="weak", reason="MODEL", latency_ms=1.0, rung="gpt-5:low", effort="low")


@pytest.mark.parametrize(
    ("model", "rung", "effort", "kept"),
    [("opus", "opus", "", {}), ("gpt-5", "", "", {}), ("o3", "o3:high", "high", {"rung": "o3:high", "effort": "high"})],
)
def test_what_is_escalated_is_logged_and_reported_as_the_rung_that_answers(model, rung, effort, kept):
    verdict = Judged(
        verdict="escalate", model=model, reason="MODEL", latency_ms=1.0, tier="between", rung=rung, effort=effort
    )
    said = decision_of(LOW, {"request_id": "r"}, verdict, is_escalated=True)
    assert {name: said[name] for name in ("rung", "effort") if name in said} == kept
    assert (said["model"], said["tier"]) == (model, "between")
    assert decision_of(LOW, {}, verdict)["rung"] == "gpt-5:low"
    _, fields = outcome_of(event(said, model_group=model), {"usage": USAGE})
    assert (fields["model"], fields.get("rung", "")) == (model, kept.get("rung", ""))


def test_a_routed_call_is_reported_with_its_tokens():
    found = outcome_of(event(DECISION | {"tier": "weak"}, model_group="gpt-4o-mini"), {"usage": USAGE})
    tokens = {"prompt_tokens": 100, "completion_tokens": 10, "cached_tokens": 4}
    named = {"model": "gpt-4o-mini", "tier": "weak", "tenant": "shop", "session_id": "s", "bundle": "tiny/1"}
    assert found == ("r", named | tokens | {"latency_ms": 250.0})


def test_where_litellm_fell_back_the_model_that_answered_is_named_and_no_tier():
    _, fields = outcome_of(event(DECISION | {"tier": "weak"}, model_group="gpt-4o"), {"usage": USAGE})
    assert (fields["model"], "tier" in fields) == ("gpt-4o", False)


@pytest.mark.parametrize(
    "decision", [None, {}, {"request_id": ""}, {"request_id": "r"}, {"request_id": 7, "model": "x"}, "turnout"]
)
def test_what_turnout_did_not_route_is_not_reported(decision: Any):
    assert outcome_of(event(decision), {"usage": USAGE}) is None


@pytest.mark.parametrize(
    "usage", [None, [], {"prompt_tokens": -1, "completion_tokens": "ten"}, {"prompt_tokens": True}]
)
def test_counts_that_are_none_are_left_out(usage: Any):
    _, fields = outcome_of(event(DECISION, model_group=None), {"usage": usage})
    assert not fields.keys() & {"prompt_tokens", "completion_tokens", "cached_tokens"}


@given(payload=JSON, response=JSON)
def test_no_event_raises(payload: Any, response: Any):
    outcome_of({"standard_logging_object": payload}, response)
    outcome_of(event(payload), response)
    outcome_of(event(DECISION) | {"more": payload}, {"usage": response})
