"""What an outcome record holds: a `ReportOutcome` in the types of this project, as msgpack.

The map carries the names of its fields. Fields are only ever added, each with a default: old readers
pass over new fields, new readers take the default for those that an old file lacks.
"""

from __future__ import annotations

import msgspec


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a routed request; the fields are those of `ReportOutcomeRequest`.

    Attributes:
        request_id: the id under which the request was routed.
        received_s: when the server took the outcome in, in seconds since 1970 (UTC).
        tier: `weak` or `strong`; empty when unknown.
        model: name of the model that answered; empty when unknown.
        score: how good the answer was, in [0, 1]; None when not judged.
        preference: `weak`, `strong` or `tie`; empty for none.
        error_code: short code of what went wrong at the model; empty for nothing.
        prompt_tokens: tokens of the prompt, 0 or more; None when unknown.
        completion_tokens: tokens of the answer, 0 or more; None when unknown.
        cached_tokens: tokens of the prompt that the vendor had cached, 0 or more; None when unknown.
        latency_ms: milliseconds that the model took, 0 or more; None when unknown.
        bundle: `name/version` that decided; empty when unknown.
        tenant: on whose behalf the request was; empty for none.
        session_id: its conversation; empty for none.
        task: its kind of work; empty for none.
        is_self_check: whether the call only asked the model if its answer was right.
        kept: what is kept of the answer, `full` or `redacted`; empty where nothing is, as of all that callers report.
            Of answers that this server obtained itself, where exploration wanted those of both models.
        text: the answer, as `kept` says; None where it is not kept.
        is_left_out: whether a text that was to be kept is missing, for its length or its calls of tools.
        redaction: version of the redaction rules; 0 where none was applied.
        finish_reason: why the model stopped, as the provider says it; empty for unknown.
        is_refusal: whether the provider marks the answer as a refusal.
        mean_logprob: mean log-probability of its tokens; None when unknown.
        self_check: log-probability that the model calls its own answer right; None when it was not asked.
        rung: of a ladder, the one that answered; empty where the model tells.
    """

    request_id: str
    received_s: float
    tier: str = ""
    model: str = ""
    score: float | None = None
    preference: str = ""
    error_code: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    latency_ms: float | None = None
    bundle: str = ""
    tenant: str = ""
    session_id: str = ""
    task: str = ""
    is_self_check: bool = False
    kept: str = ""
    text: str | None = None
    is_left_out: bool = False
    redaction: int = 0
    finish_reason: str = ""
    is_refusal: bool = False
    mean_logprob: float | None = None
    self_check: float | None = None
    rung: str = ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Outcome)


def encode_outcome(outcome: Outcome) -> bytes:
    """Return the payload of an outcome record."""
    return _encoder.encode(outcome)


def decode_outcome(payload: bytes) -> Outcome:
    """Return the outcome of a payload; raises `msgspec.MsgspecError` when it is none."""
    return _decoder.decode(payload)
