"""JudgeVerdict file: what each judge said of each row, as lines of JSON beside the labels; no prompt, no answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from turnout.serving.router.redaction import redact
from turnout.training.calls.call import CallFailure
from turnout.training.judge.opinions import Opinions
from turnout.training.judge.questions import Question
from turnout.training.judge.settings import JudgeSettings
from turnout.training.judge.verdicts import JudgeVerdict


def verdict_lines(row: Opinions, settings: JudgeSettings) -> Iterator[bytes]:
    """Yield a line of JSON for each judge of a row.

    Reasons stand in it as these settings want them: the cache may hold some of an earlier run with others.
    """
    for model, verdict in zip(settings.models, row.verdicts, strict=True):
        line = _line(row.question, model, verdict)
        if settings.keeps_reasons and isinstance(verdict, JudgeVerdict) and any(verdict.reasons):
            line["reasons"] = [redact(one) if settings.redacts else one for one in verdict.reasons]
        yield msgspec.json.encode(line) + b"\n"


def _line(question: Question, model: str, verdict: JudgeVerdict | CallFailure) -> dict[str, Any]:
    index = {"index": question.index} if question.index else {}
    line: dict[str, Any] = {
        "id": question.id,
        "file": question.file,
        "line": question.line,
        **index,
        "judge": model,
        "known_match": question.known,
    }
    if isinstance(verdict, CallFailure):
        return line | {"abstained": verdict}
    told = {"winner": verdict.winner, "match": verdict.match, "score_gap": verdict.score_gap, "flip": verdict.is_flip}
    return line | told
