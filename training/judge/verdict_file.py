"""Verdict file: what each judge said of each row, as lines of JSON beside the labels; no prompt, no answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from training.calls.call import Failure
from training.judge.opinions import Opinions
from training.judge.questions import Question
from training.judge.verdicts import Verdict


def verdict_lines(row: Opinions, models: Sequence[str]) -> Iterator[bytes]:
    """Yield a line of JSON for each judge of a row."""
    for model, verdict in zip(models, row.verdicts, strict=True):
        yield msgspec.json.encode(_line(row.question, model, verdict)) + b"\n"


def _line(question: Question, model: str, verdict: Verdict | Failure) -> dict[str, Any]:
    index = {"index": question.index} if question.index else {}
    line: dict[str, Any] = {
        "id": question.id,
        "file": question.file,
        "line": question.line,
        **index,
        "judge": model,
        "known_match": question.known,
    }
    if isinstance(verdict, Failure):
        return line | {"abstained": verdict}
    told = {"winner": verdict.winner, "match": verdict.match, "score_gap": verdict.score_gap, "flip": verdict.is_flip}
    return line | told | ({"reasons": verdict.reasons} if any(verdict.reasons) else {})
