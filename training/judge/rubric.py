"""Rubric: what the judge is asked, from a versioned file; and the two calls that it makes of a question."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from turnout.training.calls.call import Call, key_of, text_digest
from turnout.training.calls.tariff import Tariff, max_output_tokens
from turnout.training.errors import CallsMisused
from turnout.training.judge.questions import Question

RUBRIC = Path(__file__).with_name("rubric-1.toml")
FIELDS = re.compile(r"\{(prompt|answer_a|answer_b|mark)\}")
MARK_LENGTH = 12


class AnswerOrder(StrEnum):
    """Which answer the judge sees as A."""

    STRONG_FIRST = "strong_first"
    WEAK_FIRST = "weak_first"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: str
    system: str
    user: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rubric:
    """The texts and parameters of a judge's call; `version` names the file's content, not only its number."""

    version: str
    system: str
    user: str
    parameters: dict[str, Any]


def load_rubric(path: Path | None = None) -> Rubric:
    """Read a rubric file; the one that ships with Turnout unless another is named.

    Raises:
        CallsMisused: it can't be read, lacks a field of the template, or sets no limit to the answer.
    """
    file = path or RUBRIC
    try:
        raw = file.read_bytes()
        read = msgspec.toml.decode(raw, type=_File)
        max_output_tokens(read.parameters)
    except OSError as error:
        raise CallsMisused(f"{file}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise CallsMisused(f"{file}: not a rubric: {error}") from error
    if missing := {"prompt", "answer_a", "answer_b"} - set(FIELDS.findall(read.user)):
        raise CallsMisused(f"{file}: `user` lacks {', '.join(f'{{{name}}}' for name in sorted(missing))}")
    digest = hashlib.sha256(raw).hexdigest()
    return Rubric(f"{read.version}-{digest[:12]}", read.system.strip(), read.user.strip(), read.parameters)


@dataclass(frozen=True, slots=True)
class Judge:
    """A model that judges, where it is and what it costs."""

    model: str
    place: str
    tariff: Tariff


def calls_for(question: Question, judge: Judge, rubric: Rubric) -> tuple[Call, Call]:
    """Return the two calls about a row: strong first, then weak first."""
    first, second = (_call(question, judge, rubric, order) for order in AnswerOrder)
    return first, second


def _call(question: Question, judge: Judge, rubric: Rubric, order: AnswerOrder) -> Call:
    strong, weak = question.strong, question.weak
    answers = (strong, weak) if order is AnswerOrder.STRONG_FIRST else (weak, strong)
    digests = [text_digest(text) for text in (question.prompt, *answers)]
    fields = {
        "prompt": question.prompt,
        "answer_a": answers[0],
        "answer_b": answers[1],
        "mark": key_of(texts=digests)[:MARK_LENGTH],
    }
    # One pass over the template: braces inside a prompt or an answer stay what they are.
    text = FIELDS.sub(lambda found: fields[found[1]], rubric.user)
    messages = [{"role": "system", "content": rubric.system}, {"role": "user", "content": text}]
    key = key_of(
        purpose="judge",
        model=judge.model,
        place=judge.place,
        rubric=rubric.version,
        parameters=rubric.parameters,
        prompt=digests[0],
        first=digests[1],
        second=digests[2],
        order=order,
    )
    return Call(key, {"model": judge.model, "messages": messages, **rubric.parameters}, judge.tariff)
