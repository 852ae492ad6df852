"""Ties: what makes a request known again by its text, and what a bundle or a log keeps of that without the text.

Training groups rows by these keys (`training.dataset.splits`); the decision log writes their digests where it keeps
no text.
"""

from __future__ import annotations

import hashlib

from turnout.serving.router.harness import strip_harness

DIGEST_BYTES = 8


def text_key(text: str, harness_rules: int = 0) -> str:
    """Return the key of a text: the same for texts that differ in case, white space and harness text alone.

    Args:
        text: any.
        harness_rules: version of the rules by which harness text is left out (`turnout.serving.router.harness`).
    """
    stripped = strip_harness(text, harness_rules)
    return f"text:{hashlib.blake2b(normalised(stripped).encode(), digest_size=16).hexdigest()}"


def session_key(session_id: str) -> str:
    """Return the key of a session."""
    return f"session:{session_id}"


def key_digest(key: str, salt: str) -> bytes:
    """Return the salted digest of one key, 8 bytes of BLAKE2b."""
    return hashlib.blake2b(key.encode(), key=salt.encode(), digest_size=DIGEST_BYTES).digest()


def tenant_digest(tenant: str, salt: str) -> str:
    """Return what a bundle keeps of the name of a tenant: a salted digest, in hex."""
    return key_digest(f"tenant:{tenant}", salt).hex()


def normalised(text: str) -> str:
    """Return the text in lower case with white space collapsed."""
    return " ".join(text.casefold().split())
