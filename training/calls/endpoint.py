"""Endpoint: one request to an OpenAI-compatible endpoint through the openai SDK, and what became of it.

The SDK's own retries are off: each of them may be billed, and it would make them behind the caps.
"""

from __future__ import annotations

import logging
import os
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from turnout.training.calls.address import Address
from turnout.training.calls.call import Reply
from turnout.training.calls.sdk import openai
from turnout.training.errors import CallsMisused, EndpointRefused

NO_KEY_NEEDED = "none"
FATAL_STATUS = frozenset({301, 302, 303, 307, 308, 401, 402, 403, 404, 405})
RETRIED_STATUS = frozenset({408, 409, 425, 429})
SPENT_QUOTA = "insufficient_quota"
MAX_TOKENS = 1 << 40
"""A larger count of tokens is nonsense, which SQLite might not hold."""
CODE = re.compile(r"[a-z][a-z0-9_]{0,47}")
"""What an error code looks like. Nothing else of an error's text is shown: endpoints quote prompts and keys there."""


class Headers(Protocol):
    """Response headers, whichever HTTP library the SDK is built on."""

    def get(self, key: str) -> str | None:
        """Return a header's value."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that the endpoint did not answer, and won't bill.

    Attributes:
        status: of HTTP; 0 when no connection could be made.
        is_passing: whether the same request may succeed later.
        retry_after_s: how long the endpoint asks to be left alone.
        code: the endpoint's word for it.
    """

    status: int
    is_passing: bool
    retry_after_s: float | None = None
    code: str = ""


@dataclass(frozen=True, slots=True)
class Lost:
    """A request that left and of whose answer nothing is known; it may be billed."""


def open_client(address: Address) -> openai.AsyncOpenAI:
    """Return a client of the SDK.

    Raises:
        CallsMisused: the URL is wrong, or the key is not in the environment.
    """
    address.check()
    key = os.environ.get(address.key_env, "") if address.key_env else NO_KEY_NEEDED
    if not key:
        raise CallsMisused(
            f"no API key: set the environment variable {address.key_env}, name another one, or name '' where the "
            "endpoint needs none"
        )
    for name in ("openai", "httpx", "httpx2", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)  # at DEBUG they write whole requests, prompts included
    return openai.AsyncOpenAI(
        api_key=key,
        base_url=address.url,
        timeout=address.timeout_s,
        max_retries=0,
        # A redirect would take prompts to a host that nobody named.
        http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
    )


async def send(client: openai.AsyncOpenAI, body: dict[str, Any], idempotency_key: str) -> Reply | Refusal | Lost:
    """Send one chat completion.

    Args:
        client: from `open_client`.
        body: of the call.
        idempotency_key: sent as `Idempotency-Key`; endpoints that know the header bill two sends once.

    Raises:
        EndpointRefused: no call can succeed: wrong key, unknown model, spent quota, a redirect.
    """
    started = time.perf_counter()
    try:
        completion = await client.chat.completions.create(**body, extra_headers={"Idempotency-Key": idempotency_key})
    except openai.APIStatusError as error:
        return refusal(error)
    except openai.APIConnectionError as error:
        return Refusal(0, is_passing=True) if _never_left(error) else Lost()
    except (openai.APIError, ValueError):
        return Reply({})  # a status of success around a body that is no JSON: billed
    return _reply(completion, 1000 * (time.perf_counter() - started))


def _never_left(error: openai.APIConnectionError) -> bool:
    cause = error.__cause__
    return type(cause).__name__ in {"ConnectError", "ConnectTimeout", "PoolTimeout"}


def refusal(error: openai.APIStatusError) -> Refusal:
    """Return what an error status means.

    Raises:
        EndpointRefused: that no call can succeed.
    """
    code = error.code if isinstance(error.code, str) and CODE.fullmatch(error.code) else ""
    status = error.status_code
    if status in FATAL_STATUS or code == SPENT_QUOTA:
        raise EndpointRefused(
            f"the endpoint answers every call with status {status}{f' ({code})' if code else ''}; check its URL, the "
            "key and the model's name. What was paid for is in the cache; run again to go on"
        )
    is_passing = status in RETRIED_STATUS or status >= 500
    return Refusal(status, is_passing, retry_after_s(error.response.headers) if is_passing else None, code)


def retry_after_s(headers: Headers) -> float | None:
    """Return how long a response asks to wait: `retry-after-ms`, or `Retry-After` as seconds or as a date."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            delay_s = float(value) * unit_s
        except ValueError:
            continue
        if 0 <= delay_s < float("inf"):
            return delay_s
    try:
        return max(0.0, (parsedate_to_datetime(headers.get("retry-after") or "") - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _reply(completion: object, latency_ms: float) -> Reply:
    # The SDK doesn't validate: a gateway's text page or a missing list arrives here as it came.
    if not isinstance(completion, openai.types.chat.ChatCompletion):
        return Reply({}, latency_ms=latency_ms)
    # Its warnings would quote answers of a type that the SDK doesn't know.
    return reply_of(completion.model_dump(exclude_none=True, warnings=False), latency_ms)


def reply_of(completion: Any, latency_ms: float = 0.0) -> Reply:
    """Return the reply that a decoded chat.completions body holds; an empty one where it is of another shape."""
    body = completion if isinstance(completion, dict) else {}
    usage = _dict(body, "usage")
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    return Reply(
        message={name: value for name, value in _dict(choice, "message").items() if name in {"content", "tool_calls"}},
        finish_reason=str(choice.get("finish_reason") or ""),
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        cached_tokens=_count(_dict(usage, "prompt_tokens_details"), "cached_tokens") or 0,
        latency_ms=latency_ms,
    )


def _dict(body: dict[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    return value if isinstance(value, dict) else {}


def _count(body: dict[str, Any], name: str) -> int | None:
    value = body.get(name)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS
    return value if is_count else None
