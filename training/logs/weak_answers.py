"""The weak model's answer of a record, as a second look takes it.

Comes in: a `Record`. Goes out: the `Answer` with its `Signals`, which `serving.router` reads.
"""

from __future__ import annotations

from turnout.serving.router.answer import Answer, Signals
from turnout.training.logs.records import Record


def answer_of(record: Record) -> tuple[Answer, Signals] | None:
    """Return the weak model's answer with its signals; None where the log holds no text of it."""
    if record.weak is None or record.weak.content is None:
        return None
    weak = record.weak
    tokens = None if weak.token_logprobs is None else tuple(weak.token_logprobs)
    answer = Answer(weak.content or "", is_refusal=weak.is_refusal, finish_reason=weak.finish_reason or "")
    return answer, Signals(tokens, weak.mean_logprob, weak.self_check)
