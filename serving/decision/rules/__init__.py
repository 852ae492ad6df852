"""Rules and policies of an operator: which requests the model may decide on, from a file read while serving."""

from __future__ import annotations

from turnout.serving.decision.rules.budget import Exploration, ExplorationBudget
from turnout.serving.decision.rules.draws import Purpose, draw
from turnout.serving.decision.rules.exploring import After
from turnout.serving.decision.rules.reading import read_rules
from turnout.serving.decision.rules.rules import Before, Facts, Rules
from turnout.serving.decision.rules.spec import RulesSpec

__all__ = [
    "After",
    "Before",
    "Exploration",
    "ExplorationBudget",
    "Facts",
    "Purpose",
    "Rules",
    "RulesSpec",
    "draw",
    "read_rules",
]
