"""Lessons: what a logged decision needs, beside its features, so that a router can be learned from it without its text.

Comes in, on the log's thread: decisions whose caller was asked for both models' answers, since only rows with both
outcomes teach. Goes out: `Lesson`. The encoder runs here a second time, off the path of the request, so that whether a
log is kept changes no decision: on a thread of low priority, 0.7 ms of CPU at 10 word pieces, 1.6 at 34, 6.6 at
128 (`tests.bench.decision_log`, a busy machine). That is the cost of exploration's share alone; the session takes some
90 MB, from the first such decision on.
"""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnout.serving.bundles.bundle import GRAPH, TOKENIZER, read_file_of
from turnout.serving.errors import BundleRefused
from turnout.serving.router.dense import DenseEncoder
from turnout.serving.router.graph_parts import encoder_graph
from turnout.serving.router.languages import script_of
from turnout.serving.router.ties import key_digest, text_key

if TYPE_CHECKING:
    from turnout.serving.bundles.bundle import Bundle
    from turnout.serving.router.features import Features
    from turnout.serving.router.prompt import Prompt

NICENESS = 10
_log = logging.getLogger("turnout.decisions")


@dataclass(frozen=True, slots=True)
class Lesson:
    """What training needs of a prompt whose text is not kept.

    Attributes:
        features: as the bundle reads the prompt, also where its prediction came from the cache.
        dense: the encoder's vector, float32 little-endian; empty where it could not be made.
        encoder_sha256, tokenizer_sha256: of what made vector and features (hex).
        text_key: salted digest of the text, 8 bytes (`turnout.serving.router.ties`).
        key_salt: its salt, the bundle's.
        characters: of the whole prompt.
        script: its writing system.
    """

    features: Features
    dense: bytes
    encoder_sha256: str
    tokenizer_sha256: str
    text_key: bytes
    key_salt: str
    characters: int
    script: str


class Lessons:
    """Makes lessons for one decision log, whose thread alone calls it."""

    def __init__(self) -> None:
        """Start nothing yet: most logs see no exploration."""
        self._executor = ThreadPoolExecutor(1, "turnout-lessons", initializer=_be_nice)
        self._encoders: dict[str, DenseEncoder | None] = {}

    def of(self, bundle: Bundle, prompt: Prompt, features: Features | None) -> Lesson:
        """Return the lesson of a prompt that a bundle has answered; `features` None takes them again."""
        manifest = bundle.manifest
        if features is None:
            features = bundle.model.featurize(prompt)
        salt = manifest.training.group_salt
        return Lesson(
            features=features,
            dense=self._executor.submit(self._dense, bundle, features).result(),
            encoder_sha256=manifest.encoder.sha256,
            tokenizer_sha256=manifest.files[TOKENIZER].sha256,
            text_key=key_digest(text_key(prompt.text, manifest.harness_rules), salt),
            key_salt=salt,
            characters=len(prompt.text),
            script=script_of(prompt.text),
        )

    def close(self) -> None:
        """Let the thread end."""
        self._executor.shutdown(wait=False)

    def _dense(self, bundle: Bundle, features: Features) -> bytes:
        name = bundle.manifest.encoder.sha256
        if name not in self._encoders:
            self._encoders[name] = _encoder_of(bundle)
        encoder = self._encoders[name]
        return b"" if encoder is None else encoder(features.token_ids).astype("<f4").tobytes()


def _encoder_of(bundle: Bundle) -> DenseEncoder | None:
    """Return the encoder inside a bundle's graph, read again and its digest checked; None where it can't be had."""
    try:
        graph = encoder_graph(read_file_of(bundle, GRAPH))
    except BundleRefused as refused:
        _log.error("decision log: rows of %s teach nothing: %s", bundle.manifest.bundle_id, refused)
        return None
    if graph is None:
        _log.error("decision log: rows of %s teach nothing: its graph holds no encoder", bundle.manifest.bundle_id)
        return None
    return DenseEncoder(graph)


def _be_nice() -> None:
    with suppress(OSError):  # a sandbox may forbid it
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
