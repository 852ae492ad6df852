"""Rules and policies of an operator: which requests the model may decide on, from a file read while serving."""

from __future__ import annotations

from serving.rules.draws import Purpose, draw
from serving.rules.reading import read_rules
from serving.rules.rules import After, Before, Facts, Rules
from serving.rules.spec import RulesSpec

__all__ = ["After", "Before", "Facts", "Purpose", "Rules", "RulesSpec", "draw", "read_rules"]
