"""Answers: one model's entry in a row, in any form, as a `Response`.

Comes in: what stands under `responses` by model name, for `training.logs.rows`. Goes out: `Response`.

An entry is ours (`LoggedAnswer`), a text, a vendor's whole completion, or the chunks of one. Token counts and
log-probabilities cost only themselves where they can't be read; a score that can't be read costs the row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from turnout.serving.decision.model_names import is_model
from turnout.serving.router.prompt import ContentPart
from turnout.training.logs.cells import encode, number
from turnout.training.logs.quarantine import ROW_ERRORS, Reason, RowRefused
from turnout.training.logs.readers.completion import completion_answer, read_completion
from turnout.training.logs.readers.logprobs import token_logprobs
from turnout.training.logs.records import Response

_NULL = msgspec.Raw(b"null")


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the provider counted them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class LoggedAnswer(msgspec.Struct, frozen=True):
    """One model's entry under `responses`; `content` unset where the entry says nothing of it."""

    content: str | list[ContentPart] | msgspec.UnsetType | None = msgspec.UNSET
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    function_call: dict[str, Any] | None = None
    finish_reason: str | None = None
    usage: Any = None
    score: float | bool | str | None = None
    logprobs: Any = None
    token_logprobs: Any = None
    mean_logprob: float | None = None
    self_check: float | None = None
    latency_ms: Any = None


_ANSWER_KEYS = frozenset(LoggedAnswer.__struct_fields__) - {"latency_ms"}  # which tells nothing of the form
_COMPLETION_KEYS = frozenset({"choices", "output", "output_text"})
_BESIDE = ("score", "self_check", "mean_logprob", "latency_ms")
"""Of ours, what may stand in a vendor's completion too."""
_TEXT_KEYS = ("text", "response", "answer", "completion", "generation")
"""Names under which tables keep an answer's text in place of `content`."""


class _Known(LoggedAnswer, frozen=True, forbid_unknown_fields=True):
    """An answer with no field but ours."""


_decode_known: Callable[[bytes | msgspec.Raw], LoggedAnswer] = msgspec.json.Decoder(_Known).decode
_decode_answer: Callable[[bytes | msgspec.Raw], LoggedAnswer | None] = msgspec.json.Decoder(LoggedAnswer | None).decode


def answer_of(responses: Mapping[str, msgspec.Raw], model: str, odd: list[str]) -> Response | None:
    """Return the model's answer: that of the exact name, else of its latest snapshot; None where there is none.

    Args:
        responses: entries by model name, each in any form (`_read_answer`).
        model: one of the pair.
        odd: takes the names of optional fields that can't be read.

    Raises:
        RowRefused: an entry holds no answer, or its score is out of [0, 1].
    """
    answer = _read_answer(responses.get(model, _NULL))
    if answer is None:
        snapshots = sorted(name for name in responses if name != model and is_model(name, model))
        answer = _read_answer(responses[snapshots[-1]]) if snapshots else None
    if answer is None:
        return None
    content = _content(answer)
    score = score_of(answer.score)
    if content is None and score is None:
        return None
    usage = _usage(answer.usage, odd)
    logprobs = logprobs_of(answer.token_logprobs if answer.logprobs is None else answer.logprobs, odd)
    return Response(
        content,
        score,
        usage.prompt_tokens,
        usage.completion_tokens,
        token_logprobs=logprobs,
        mean_logprob=answer.mean_logprob if logprobs is None else sum(logprobs) / len(logprobs),
        self_check=answer.self_check,
        finish_reason=_why_stopped(answer.finish_reason),
        is_refusal=bool(answer.refusal),
        latency_ms=latency_of(answer.latency_ms, odd),
    )


def _read_answer(raw: msgspec.Raw) -> LoggedAnswer | None:
    """Return an answer in any form: ours, a text, a whole completion, or its chunks.

    Raises:
        RowRefused: there is none in it: it has none of the keys that an answer has.
    """
    start = bytes(raw)[:1]
    if start == b"{":
        try:
            return _decode_known(raw)  # no other field than ours: most answers
        except msgspec.ValidationError:
            pass
    if start == b"{" and b'"choices"' not in bytes(raw):
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        if not fields or (_ANSWER_KEYS & fields.keys() and not _is_completion(fields)):
            return _decode_answer(raw)
        if name := next((name for name in _TEXT_KEYS if bytes(fields.get(name, _NULL))[:1] == b'"'), ""):
            return _decode_answer(encode(fields | {"content": fields[name], "text": _NULL}))
        if isinstance(message := msgspec.json.decode(fields.get("message", _NULL)), dict):
            return _decode_answer(encode(message | {key: fields[key] for key in _ANSWER_KEYS & fields.keys()}))
    elif start == b"n":
        return None
    value = msgspec.json.decode(raw)
    found = completion_answer(read_completion(value))
    if found is None:
        raise RowRefused(Reason.NO_ANSWER_KEY)
    scored = value if isinstance(value, dict) else {}
    beside = {name: scored[name] for name in _BESIDE if name in scored}
    return _decode_answer(encode(found | beside))


def _is_completion(fields: Mapping[str, Any]) -> bool:
    """Whether these are the fields of a vendor's answer; `content` alone stands in ours too, and in Anthropic's."""
    kind = bytes(fields.get("type", _NULL))
    return bool(_COMPLETION_KEYS & fields.keys()) or kind == b'"message"'


def _usage(value: Any, odd: list[str]) -> Usage:
    """Return the counts of tokens; counts as text or with a fraction of 0 are counts."""
    if value is None:
        return Usage()
    try:
        counts = [value.get(name) for name in ("prompt_tokens", "completion_tokens")]
        if counts == [None, None]:
            counts = [value.get(name) for name in ("input_tokens", "output_tokens")]
        return Usage(*(None if count is None else msgspec.convert(count, int, strict=False) for count in counts))
    except (AttributeError, *ROW_ERRORS):
        odd.append("usage")
        return Usage()


def logprobs_of(value: Any, odd: list[str]) -> tuple[float, ...] | None:
    """Return log-probabilities by token, of any provider's form; None, and noted as odd, where they can't be read."""
    try:
        found = token_logprobs(value)
    except ValueError:
        odd.append("logprobs")
        return None
    return None if found is None else tuple(found)


def latency_of(value: Any, odd: list[str]) -> float | None:
    """Return milliseconds above 0; None, and noted as odd, for what is no such number."""
    if value is None:
        return None
    found = number(value)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0.0 < found < math.inf:
        odd.append("latency_ms")
        return None
    return float(found)


def _why_stopped(reason: str | None) -> str | None:
    """Return why an answer stopped, where it did not simply end."""
    return None if reason in _ENDS else reason


_ENDS = frozenset(
    {"stop", "end_turn", "tool_calls", "tool_use", "function_call", "stop_sequence", "eos", "completed", ""}
)


def _content(answer: LoggedAnswer) -> str | None:
    """Return all that the answer says: its text, its tool calls as JSON, or both; empty where it says that it is empty.

    Two answers are then the same only where both their texts and their calls are.
    """
    text = None if answer.content is msgspec.UNSET else answer.content
    if isinstance(text, list):
        text = "\n".join(part.text for part in text if part.text)
    calls = [
        _call(call) for call in (*(answer.tool_calls or ()), *([answer.function_call] if answer.function_call else ()))
    ]
    if calls:
        said = msgspec.json.encode(calls, order="sorted").decode()
        return f"{text}\n{said}" if text else said
    if text is None and answer.refusal:
        return answer.refusal
    is_silent = text is None and answer.content is not msgspec.UNSET and answer.score is None
    return "" if is_silent else text


def _call(call: dict[str, Any]) -> dict[str, Any]:
    """Return a call by its name: a function's arguments as JSON, a custom tool's input as text; others as they are.

    The id is the provider's, different in every answer.
    """
    function, custom = call.get("function", call), call.get("custom")
    if isinstance(custom, dict):
        return {str(custom.get("name", "")): custom.get("input")}
    if isinstance(function, dict) and ("arguments" in function or "name" in function):
        arguments = function.get("arguments", function.get("input", ""))
        return {str(function.get("name", "")): _arguments(arguments) if isinstance(arguments, str) else arguments}
    return {name: value for name, value in call.items() if name not in {"id", "call_id", "index"}}


def _arguments(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def score_of(score: Any) -> float | None:
    """Return a score in [0, 1], None where there is none.

    Raises:
        RowRefused: it is no number, or out of range.
    """
    score = number(score)
    if score is None:
        return None
    if not isinstance(score, int | float):
        raise RowRefused(Reason.WRONG_TYPE)
    if not 0 <= score <= 1:
        raise RowRefused(Reason.OUT_OF_RANGE)
    return float(score)
