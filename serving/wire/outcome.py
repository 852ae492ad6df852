"""Where `ReportOutcomeRequest` meets the domain types, for server and client alike.

Server: bytes in, a checked `Outcome` out. Client: the fields of a call in, `ReportOutcomeRequest` out.
"""

from __future__ import annotations

import math
import re
from typing import Any, TypedDict

from google.protobuf.message import DecodeError

from turnout.serving.errors import InvalidRequest
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.prompt import clean_text
from turnout.serving.spool.outcome import Outcome

MAX_OUTCOME_BYTES = 64 << 10
"""A larger request is INVALID_ARGUMENT: names and numbers need a few hundred bytes."""

MAX_MODEL_BYTES = 256

_TIERS = {pb.TIER_UNSPECIFIED: "", pb.TIER_WEAK: "weak", pb.TIER_STRONG: "strong"}
_PREFERENCES = ("", "weak", "strong", "tie")
_ERROR_CODE = re.compile(r"[A-Za-z0-9._-]{0,64}", re.ASCII)
_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens")
_TEXTS = ("model", "preference", "error_code", "bundle", "tenant", "session_id", "task", "rung")


class OutcomeFields(TypedDict, total=False):
    """What a client may report beside the request id; what is left out is unknown.

    Attributes:
        tier: `weak` or `strong`, the one that really answered.
        model: name of the model that answered, at most 256 bytes.
        score: how good the answer was, in [0, 1].
        preference: `weak`, `strong` or `tie`, where both answers were seen.
        error_code: what went wrong at the model, such as `timeout`: at most 64 letters, digits, `.`, `_`, `-`.
        prompt_tokens: tokens of the prompt as the vendor counted them, 0 or more.
        completion_tokens: those of the answer.
        cached_tokens: those of the prompt that the vendor had cached.
        latency_ms: milliseconds that the model took, 0 or more.
        bundle: the response's bundle.
        tenant: the request's tenant.
        session_id: the request's session.
        task: the request's task.
        self_check: whether the call only asked the model if its answer was right.
        rung: name of the rung that answered, at most 256 bytes; tells one effort of a model from another.
    """

    tier: str
    model: str
    score: float
    preference: str
    error_code: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    latency_ms: float
    bundle: str
    tenant: str
    session_id: str
    task: str
    self_check: bool
    rung: str


def outcome_request(request_id: str, fields: OutcomeFields) -> Any:
    """Return the `ReportOutcomeRequest` of a client's call.

    Raises:
        InvalidRequest: a tier that is neither `weak` nor `strong`.
        TypeError, ValueError: a field that there is not, or a value that it can't hold.
    """
    values: dict[str, Any] = dict(fields)
    tier = values.pop("tier", "")
    tier = "" if tier == "between" else tier  # which `model` and `rung` tell
    if tier not in _TIERS.values():
        raise InvalidRequest("tier: expected weak or strong")
    values |= {name: clean_text(values[name]) for name in _TEXTS if name in values}
    number = next(number for number, name in _TIERS.items() if name == tier)
    return pb.ReportOutcomeRequest(request_id=clean_text(request_id), tier=number, **values)


def read_outcome(raw: bytes, received_s: float) -> Outcome:
    """Check and decode the bytes of a `ReportOutcomeRequest`, received at `received_s` seconds since 1970.

    Raises:
        InvalidRequest: too many bytes, undecodable, or a field out of its range; the message names it.
    """
    if len(raw) > MAX_OUTCOME_BYTES:
        raise InvalidRequest(f"the request has {len(raw)} bytes, at most {MAX_OUTCOME_BYTES} are allowed")
    try:
        request = pb.ReportOutcomeRequest.FromString(raw)
    except DecodeError:  # its text may quote the bytes
        raise InvalidRequest("the request is not a turnout.v1.ReportOutcomeRequest: undecodable or not UTF-8") from None
    _check(request)
    return Outcome(
        request_id=request.request_id,
        received_s=received_s,
        tier=_TIERS[request.tier],
        score=_optional(request, "score"),
        latency_ms=_optional(request, "latency_ms"),
        **{name: _optional(request, name) for name in _TOKENS},
        **{name: getattr(request, name) for name in _TEXTS},
        is_self_check=request.self_check,
    )


def _check(request: Any) -> None:
    """Raise `InvalidRequest` for the first field out of its range; text of the caller is not repeated."""
    if not request.request_id:
        raise InvalidRequest("request_id: expected the id of the request that was routed, got none")
    if request.tier not in _TIERS:
        raise InvalidRequest(f"tier: expected TIER_WEAK, TIER_STRONG or none, got {request.tier}")
    _check_names(request)
    if not 0 <= request.score <= 1:
        raise InvalidRequest(f"score: expected a number in [0, 1], got {request.score}")
    if request.preference not in _PREFERENCES:
        raise InvalidRequest('preference: expected "weak", "strong", "tie" or none')
    if _ERROR_CODE.fullmatch(request.error_code) is None:
        raise InvalidRequest('error_code: expected at most 64 letters, digits, ".", "_" or "-"')
    for name in _TOKENS:
        if getattr(request, name) < 0:
            raise InvalidRequest(f"{name}: expected 0 or more, got {getattr(request, name)}")
    if not (math.isfinite(request.latency_ms) and request.latency_ms >= 0):
        raise InvalidRequest(f"latency_ms: expected milliseconds, 0 or more, got {request.latency_ms}")


def _check_names(request: Any) -> None:
    for name in ("model", "rung"):
        n_bytes = len(getattr(request, name).encode())
        if n_bytes > MAX_MODEL_BYTES:
            raise InvalidRequest(f"{name}: expected at most {MAX_MODEL_BYTES} bytes, got {n_bytes}")


def _optional(request: Any, name: str) -> Any:
    return getattr(request, name) if request.HasField(name) else None
