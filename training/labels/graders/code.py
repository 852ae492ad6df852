"""Code: the reference is tests, and the answer's code is right when it passes them within the limits.

Runs what a model wrote, so that nothing here runs unless the operator asks for it (`--run-code`). Tests come as Python
with asserts, or as a JSON object with `test` or `tests` (text), `test_list` (MBPP) and `entry_point` (HumanEval).
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

from turnout.training.labels.graders import Grade, Grader, Question
from turnout.training.labels.sandbox import Limits, passes
from turnout.training.labels.texts import json_value

__all__ = ["Limits", "code_grader", "is_tests"]

CONFIDENCE = 0.99
"""Assumed, not measured: no shared row carries its tests. They are deterministic but for time limits."""

_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Tests:
    source: str
    entry_point: str = ""


def is_tests(reference: str) -> bool:
    """Whether a reference is tests to run rather than an answer to compare with."""
    return _tests(reference) is not None


def code_grader(limits: Limits) -> Grader:
    """Return the grader that runs answers within these limits."""

    def read(question: Question) -> Grade | None:
        tests = _tests(question.reference)
        if tests is None:
            return None
        return lambda answer: float(passes(_code(answer, question.prompt, tests), tests.source, limits))

    return Grader("code", CONFIDENCE, read)


def _tests(reference: str) -> _Tests | None:
    if "assert" not in reference:
        return None
    value = json_value(reference)
    if isinstance(value, dict):
        return _from_fields(value)
    return _Tests(reference) if value is None and _asserts(reference) else None


def _from_fields(fields: dict[str, Any]) -> _Tests | None:
    listed = fields.get("test_list")
    text = fields.get("test") or fields.get("tests") or listed
    source = "\n".join(map(str, text)) if isinstance(text, list) else text
    entry_point = fields.get("entry_point") or ""
    if not isinstance(source, str) or not isinstance(entry_point, str) or not _asserts(source):
        return None
    if entry_point.isidentifier() and "def check(" in source:
        source += f"\ncheck({entry_point})\n"
    return _Tests(source, entry_point)


def _asserts(source: str) -> bool:
    try:
        return any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _code(answer: str, prompt: str, tests: _Tests) -> str:
    """Return the answer's code: its fenced blocks, or all of it; a bare function body is put under the prompt."""
    fenced = _FENCE.findall(answer)
    code = "\n\n".join(fenced) if fenced else answer
    head = f"def {tests.entry_point}("
    return prompt + code if tests.entry_point and head in prompt and head not in code else code
