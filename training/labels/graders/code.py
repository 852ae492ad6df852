"""Code: the reference is tests, and the answer's code is right when it passes them within the limits.

Runs what a model wrote, so that nothing here runs unless the operator asks for it (`--run-code`). Tests come as Python
with asserts, or as a JSON object with `test` or `tests` (text), `test_list` (MBPP) and `entry_point` (HumanEval).
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

from turnout.training.labels.fences import blocks
from turnout.training.labels.graders import Grade, Grader, GraderQuestion
from turnout.training.labels.sandbox import RunLimits, passes
from turnout.training.labels.stretches import without_thinking
from turnout.training.labels.texts import json_value

__all__ = ["RunLimits", "code_grader", "is_tests"]

CONFIDENCE = 0.99
"""Assumed, not measured: no shared row carries its tests. They are deterministic but for time limits."""

_PYTHON = re.compile(r"(?:python|py|ipython|cpython)[\d.]*|\{?\.?python\}?", re.IGNORECASE)
_FIRST_LINE = re.compile(r"^(?:def|class|import|from|async def|@\w+)\b", re.MULTILINE)
_PROMPTED = re.compile(r"^\s*>>> ", re.MULTILINE)
MAX_PROSE_LINES = 60
"""How much prose behind code without a fence is cut away to find the code."""


@dataclass(frozen=True, slots=True)
class _Tests:
    source: str
    entry_point: str = ""


def is_tests(reference: str) -> bool:
    """Whether a reference is tests to run rather than an answer to compare with."""
    return _tests(reference) is not None


def code_grader(limits: RunLimits) -> Grader:
    """Return the grader that runs answers within these limits."""

    def read(question: GraderQuestion) -> Grade | None:
        tests = _tests(question.reference)
        if tests is None:
            return None

        def grade(answer: str) -> float | None:
            code = [_with_head(part, question.prompt, tests) for part in _codes(answer)]
            return float(any(passes(one, tests.source, limits) for one in code)) if code else None

        return grade

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


def _codes(answer: str) -> list[str]:
    """Return what of an answer may be its code, to be tried in turn: all Python blocks together, then the longest alone.

    Blocks in other languages (an installation, its output) are none of it. Without any fence the answer is code itself,
    or holds some from the first line that begins a definition on; prose alone is no code.
    """  # noqa: E501
    text = without_thinking(answer)
    fenced = blocks(text)
    if not fenced:
        return _unfenced(text)
    python = [block.code for block in fenced if _PYTHON.fullmatch(block.language)]
    if not python:
        python = [block.code for block in fenced if not block.language and not block.code.lstrip().startswith("$ ")]
    python = [code for code in python if not _PROMPTED.search(code)]
    return list(dict.fromkeys(["\n\n".join(python), max(python, key=len)])) if python else []


def _unfenced(text: str) -> list[str]:
    if _is_python(text):
        return [text]
    start = _FIRST_LINE.search(text)
    if start is None:
        return [text] if text.startswith((" ", "\t")) else []  # a function's body alone
    lines = text[start.start() :].split("\n")
    for end in range(len(lines), max(0, len(lines) - MAX_PROSE_LINES), -1):
        if _is_python(code := "\n".join(lines[:end])):
            return [code]
    return []


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _with_head(code: str, prompt: str, tests: _Tests) -> str:
    """Return the code, put under the prompt where it is a function's body alone."""
    head = f"def {tests.entry_point}("
    return prompt + code if tests.entry_point and head in prompt and head not in code else code
