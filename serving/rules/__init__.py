"""Rules and policies of an operator: which requests the model may decide on, from a file read while serving."""

from __future__ import annotations

from serving.rules.budget import Exploration, ExplorationBudget
from serving.rules.draws import Purpose, draw
from serving.rules.exploring import After
from serving.rules.reading import read_rules
from serving.rules.rules import Before, Facts, Rules
from serving.rules.spec import RulesSpec

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
