"""The digest that stands for a prompt in the decision log, and the key under which it is made.

Whoever has the log but not the key can't test whether a prompt that he guesses is in it. The key lies in
the spool's folder, made once, so that workers and restarts give the same prompt the same digest.
"""

from __future__ import annotations

import os
import secrets
from hashlib import blake2b
from pathlib import Path

from turnout.serving.router.prompt import Prompt

KEY_FILE = "digest.key"
KEY_BYTES = 32
DIGEST_BYTES = 16


def digest_key(folder: Path) -> bytes:
    """Return the key of a spool's folder, made there unless it exists; for its owner alone.

    Raises:
        OSError: it can't be read, made, or is no key.
    """
    path = folder / KEY_FILE
    if not path.exists():
        _make(path)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise OSError(0, f"expected {KEY_BYTES} bytes, got {len(key)}; restore the key or delete it", str(path))
    return key


def prompt_digest(prompt: Prompt, key: bytes) -> bytes:
    """Return 16 bytes, BLAKE2b (RFC 7693) of all that the router sees of a request."""
    digest = blake2b(prompt.text.encode(), digest_size=DIGEST_BYTES, key=key)
    digest.update(repr((prompt.turns, prompt.images, prompt.tools, prompt.wants_json)).encode())
    return digest.digest()


def _make(path: Path) -> None:
    """Write a key whole or not at all; of workers that start together, the first one's counts."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink(missing_ok=True)
