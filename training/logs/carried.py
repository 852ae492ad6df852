"""Carried: what a request holds beside its text that the answer depends on.

Comes in: the body of a request. Goes out: a digest of its tools, format and parameters, empty for none: two requests are
the same only where these are the same, too.
"""  # noqa: E501

from __future__ import annotations

import hashlib

import msgspec

ANSWER_DEPENDS_ON = (
    "tools", "functions", "tool_choice", "function_call", "parallel_tool_calls", "response_format", "text", "temperature", "top_p", "top_k", "n", "stop",  # noqa: E501
    "stop_sequences", "seed", "max_tokens", "max_completion_tokens", "max_output_tokens", "logit_bias", "presence_penalty", "frequency_penalty",  # noqa: E501
    "reasoning_effort", "reasoning", "thinking", "modalities", "audio", "web_search_options", "verbosity", "previous_response_id", "conversation",  # noqa: E501
)  # fmt: skip
"""Named, because bodies in logs carry the gateway's own fields as well, which differ from call to call."""
DIGEST_BYTES = 12


def carried_by(body: bytes) -> str:
    """Return the digest of a request's tools, format and parameters in hexadecimal digits; empty for none.

    A parameter that is null counts as left out. A body that is no object carries nothing.
    """
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    if not isinstance(fields, dict):
        return ""
    kept = {name: fields[name] for name in ANSWER_DEPENDS_ON if fields.get(name) not in (None, [], {}, "")}
    if not kept:
        return ""
    return hashlib.blake2b(msgspec.json.encode(kept, order="sorted"), digest_size=DIGEST_BYTES).hexdigest()
