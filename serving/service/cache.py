"""Answers the model gave before, by digest of the prompt: bounded, in memory, never the prompt itself."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from hashlib import blake2b

from turnout.serving.router.model import Prediction
from turnout.serving.router.prompt import Prompt

KEY_BYTES = 16


class PredictionCache:
    """The predictions of one bundle for the prompts seen last. Belongs to one event loop.

    Keys are BLAKE2b digests (RFC 7693) under a secret of this process: whoever reads its memory can't test
    whether a prompt he guesses was seen. A bundle that is replaced takes its cache along.

    Attributes:
        hits, misses: look-ups so far.
    """

    def __init__(self, max_items: int) -> None:
        """Keep at most `max_items` predictions, about 250 bytes each; 0 keeps none."""
        self.hits = self.misses = 0
        self._max_items = max_items
        self._secret = secrets.token_bytes(KEY_BYTES)
        self._predictions: OrderedDict[bytes, Prediction] = OrderedDict()

    def __len__(self) -> int:
        return len(self._predictions)

    def key(self, prompt: Prompt, threshold: float, also: float | None = None) -> bytes:
        """Return what a prediction depends on, as a digest; empty where nothing is kept."""
        if not self._max_items:
            return b""
        digest = blake2b(prompt.text.encode(), digest_size=KEY_BYTES, key=self._secret)
        digest.update(repr((prompt.turns, prompt.images, prompt.tools, prompt.wants_json, threshold)).encode())
        if also is not None:
            digest.update(repr(also).encode())
        return digest.digest()

    def get(self, key: bytes) -> Prediction | None:
        """Return the prediction under `key` and count the look-up; None when there is none."""
        if not self._max_items:
            return None
        found = self._predictions.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._predictions.move_to_end(key)
        return found

    def put(self, key: bytes, prediction: Prediction) -> None:
        """Keep a prediction, and let go of the one unused for longest where there is no room."""
        if not self._max_items:
            return
        self._predictions[key] = prediction
        if len(self._predictions) > self._max_items:
            self._predictions.popitem(last=False)
