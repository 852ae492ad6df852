"""What a check record holds: one verdict on an answer of the weak model, with what training needs of it, as msgpack.

It is joined to its decision by `request_id` and `digest`. The map carries the names of its fields. Fields are only ever
added, each with a default: old readers pass over new fields, new readers take the default for those that are not there.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

MAX_LOGGED_TOKENS = 8192
"""Signals of longer answers are cut there: a record has a limit of 1 MiB, and head and tail tell enough."""
MAX_REASON_CHARS = 64


class CheckRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One verdict; where nothing else is said, fields mean what they do in `CheckRequest` and `CheckResponse`.

    Attributes:
        checked_s: when it was given, in seconds since 1970 (UTC).
        kept: what is kept of the answer: `full`, `redacted` or `digest` (its measures alone).
        digest: 16 bytes, BLAKE2b of the prompt under the key of the spool, as in the decision.
        verdict: `accept` or `escalate`.
        head: `CHECKER`, `SIGNALS` or `NONE`; empty when the second look did not run.
        text: the answer, as `kept` says; None where it is not kept.
        is_left_out: whether a text that was to be kept is missing, for its length.
        redaction: version of the redaction rules; 0 where none was applied.
        characters: of the answer.
        token_logprobs: of the first 8,192 tokens, float32 little-endian; empty where unknown.
        top_margins: likewise.
        rung: of `model`, where its name is another.
    """

    checked_s: float
    kept: str
    digest: bytes
    verdict: str
    model: str
    threshold: float
    policy: str
    reason: str
    bundle: str
    head: str = ""
    p_match_checked: float | None = None
    request_id: str = ""
    tenant: str = ""
    task: str = ""
    session_id: str = ""
    rule: str = ""
    accept_cost_usd: float | None = None
    escalate_cost_usd: float | None = None
    signals_used: tuple[str, ...] = ()
    signals_ignored: tuple[str, ...] = ()
    text: str | None = None
    is_left_out: bool = False
    redaction: int = 0
    characters: int = 0
    tool_calls: int = 0
    is_refusal: bool = False
    finish_reason: str = ""
    token_logprobs: bytes = b""
    top_margins: bytes = b""
    mean_logprob: float | None = None
    self_check: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_ms: float | None = None
    rung: str = ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CheckRecord)


def encode_check(record: CheckRecord) -> bytes:
    """Return the payload of a check record."""
    return _encoder.encode(record)


def decode_check(payload: bytes) -> CheckRecord:
    """Return the verdict of a payload; raises `msgspec.MsgspecError` when it is none."""
    return _decoder.decode(payload)


def packed(values: Sequence[float] | None) -> bytes:
    """Return numbers as float32, little-endian, the first `MAX_LOGGED_TOKENS` of them."""
    kept = (values or ())[:MAX_LOGGED_TOKENS]
    return struct.pack(f"<{len(kept)}f", *kept)
