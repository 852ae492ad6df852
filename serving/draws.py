"""Random draws that repeat: a hash of (purpose, salt, key), so that the same request always draws the same.

Rollout, canary, shadow and exploration draw under purposes of their own, and so independently: who is in the
canary's 5 % says nothing of who is in a rollout's 20 %.
"""

from __future__ import annotations

from hashlib import blake2b

_SCALE = 2.0**-64


def draw(purpose: str, salt: str, key: bytes) -> float:
    """Return a number in [0, 1), uniform over keys and independent between purposes and salts (BLAKE2b, RFC 7693)."""
    name = f"{purpose}\0{salt}\0".encode()
    return int.from_bytes(blake2b(name + key, digest_size=8).digest()) * _SCALE
