"""Draws: a number in [0, 1) that is the same for the same request or session, on every worker and replica.

Each purpose has a hash of its own (BLAKE2b's personalisation, RFC 7693 section 2.5), so that being in the
rollout says nothing about being explored. Nothing is remembered, nothing is random at run time.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b

MAX_SALT_BYTES = 64
"""What BLAKE2b takes as its key."""


class Purpose(StrEnum):
    """What is drawn for."""

    ROLLOUT = "rollout"
    EXPLORATION = "exploration"
    CANARY = "canary"
    SHADOW = "shadow"
    PAIR = "pair"


_PERSONS = {purpose: purpose.encode() for purpose in Purpose}


def draw(purpose: Purpose, salt: str, key: str) -> float:
    """Return a number in [0, 1), uniform over keys and over salts; a multiple of 2^-53.

    A request is in a share `p` when its draw is below `p`: a larger share keeps every key that it had.

    Args:
        purpose: draws for different purposes are independent.
        salt: another one draws anew; at most 64 bytes of UTF-8.
        key: session, request or content; see `Facts.draw_key`.
    """
    person = _PERSONS[purpose]
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=salt.encode(), person=person).digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53
