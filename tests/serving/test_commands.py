"""How a decision reads on the command line."""

from __future__ import annotations

import json

import pytest

from tests.builders import BUNDLE_ID
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.cli.route import decision_json, decision_line
from turnout.serving.decision.decision import decide
from turnout.serving.router.prompt import Prompt


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        (
            Prompt("hello"),
            "gpt-4o-mini (weak)  p_match 0.933 >= 0.750  policy max_worse=0.01  MODEL FAST",
        ),
        (
            Prompt("word " * 90),
            "gpt-4o (strong)  p_match 0.278 < 0.750  policy max_worse=0.01  MODEL FAST",
        ),
        (Prompt("", images=1), "gpt-4o (strong)  policy max_worse=0.01  RULE"),
    ],
)
def test_decision_reads_as_one_line(bundle: Bundle, prompt: Prompt, line: str):
    assert decision_line(decide(bundle, prompt, bundle.manifest.policy(""))) == line


def test_decision_as_json_has_the_fields_of_the_response(bundle: Bundle):
    fields = json.loads(decision_json(decide(bundle, Prompt("hello"), bundle.manifest.policy("")), BUNDLE_ID))
    assert fields.pop("p_match") == fields.pop("confidence") == pytest.approx(0.933, abs=1e-3)
    assert fields == {
        "tier": "weak",
        "model": "gpt-4o-mini",
        "threshold": 0.75,
        "policy": "max_worse=0.01",
        "reason": "MODEL",
        "stage": "FAST",
        "bundle": BUNDLE_ID,
    }
