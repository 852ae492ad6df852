"""What a decision record holds: one routing decision with what training and evaluation need of it, as msgpack.

The map carries the names of its fields. Fields are only ever added, each with a default: old readers
pass over new fields, new readers take the default for those that an old file lacks.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class LogDecisions(StrEnum):
    """What the decision log keeps of each prompt; OFF keeps no decision at all."""

    OFF = "off"
    FULL = "full"
    REDACTED = "redacted"
    DIGEST = "digest"


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One decision; where nothing else is said, fields mean what they do in `RouteRequest` and `RouteResponse`.

    Attributes:
        decided_s: when it was decided, in seconds since 1970 (UTC).
        kept: what is kept of the prompt: `full`, `redacted` or `digest`.
        digest: 16 bytes, BLAKE2b of the prompt under the key of the spool; the same for the same prompt.
        tokens: estimated tokens of the prompt.
        route: `weak` or `strong`.
        stage: `FAST` or `FULL`; empty when the model did not run.
        exploration: `open` where the request could be explored, `capped` or `unpriced` where it could have been, else
            empty; see `turnout.serving.decision.rules.budget`.
        other_model: of the pair, the one that `model` is not; empty in logs of before.
        text: the rendered prompt, as `kept` says; None where it is not kept.
        is_left_out: whether a text that was to be kept is missing, for its length.
        redaction: version of the redaction rules; 0 where none was applied.
        turns: user messages.
        images: image parts.
        tools: tools offered.
        wants_json: whether JSON was asked for.
        buckets: hashed uni- and bigrams, uint32 little-endian; empty unless `kept` is `digest` and the model ran.
        counts: how often each bucket occurs, uint16 little-endian.
        structural: measures of `turnout.serving.router.features.STRUCTURAL`, float32 little-endian.
        feature_schema: version of those three; 0 without them.
        harness_rules: version of the rules by which they were taken without harness text.
        dense: the encoder's vector, float32 little-endian, where `kept` is `digest` and both answers were wanted; so
            are the fields below, without which no router can be learned from a row that has no text.
        encoder_sha256, tokenizer_sha256: of what made vector and counts (hex).
        text_key: salted digest of the text without case, white space and harness text, 8 bytes (`serving.router.ties`).
        key_salt: its salt, that of `bundle`.
        characters: of the prompt.
        script: its writing system, as `turnout.serving.router.languages` names it.
        action: `weak`, `try` or `strong`; empty in logs of before, where it is the route.
        can_check: whether the caller can have answers checked.
        rung: of a ladder of more than two, the one that was taken, and `route_propensity` is its; empty for a pair,
            whose model tells. `route` is `weak` for the cheapest rung and `strong` for all above it.
        rungs: names of all, the cheapest first.
        p_rungs: of each between, P(it is not worse than the top); empty where the model did not run.
        t_rungs: what each needed.
        usd_rungs: expected cost at each of all; None where unknown.
        other_rung: the one whose answer was wanted as well; empty for none.
        chosen_rung: of a request that could be explored, the rung that no draw would have moved; else empty.
        take_rungs: of such a request, probability of each rung that it is taken.
        ask_rungs: likewise that its answer is obtained: taken, or wanted as the second.
        both_propensity: probability that a second answer is wanted, whichever rung is taken.
    """

    decided_s: float
    kept: str
    digest: bytes
    tokens: int
    route: str
    model: str
    threshold: float
    policy: str
    reason: str
    bundle: str
    request_id: str = ""
    tenant: str = ""
    task: str = ""
    session_id: str = ""
    p_match: float | None = None
    stage: str = ""
    rule: str = ""
    route_propensity: float = 1.0
    weak_cost_usd: float | None = None
    strong_cost_usd: float | None = None
    text: str | None = None
    is_left_out: bool = False
    redaction: int = 0
    turns: int = 1
    images: int = 0
    tools: int = 0
    wants_json: bool = False
    buckets: bytes = b""
    counts: bytes = b""
    structural: bytes = b""
    feature_schema: int = 0
    wants_both: bool = False
    pair_propensity: float = 0.0
    exploration: str = ""
    other_model: str = ""
    harness_rules: int = 0
    dense: bytes = b""
    encoder_sha256: str = ""
    tokenizer_sha256: str = ""
    text_key: bytes = b""
    key_salt: str = ""
    characters: int = 0
    script: str = ""
    action: str = ""
    can_check: bool = False
    rung: str = ""
    rungs: tuple[str, ...] = ()
    p_rungs: tuple[float, ...] = ()
    t_rungs: tuple[float, ...] = ()
    usd_rungs: tuple[float | None, ...] = ()
    other_rung: str = ""
    chosen_rung: str = ""
    take_rungs: tuple[float, ...] = ()
    ask_rungs: tuple[float, ...] = ()
    both_propensity: float = 0.0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(DecisionRecord)


def encode_decision(record: DecisionRecord) -> bytes:
    """Return the payload of a decision record."""
    return _encoder.encode(record)


def decode_decision(payload: bytes) -> DecisionRecord:
    """Return the decision of a payload; raises `msgspec.MsgspecError` when it is none."""
    return _decoder.decode(payload)
