"""`NativeHead`: prompts through the fast head in C.

Comes in: `Prompt` and thresholds. Goes out: what the first stage of the graph says, or None for what is handed over to
the Python path: characters beyond planes 0 and 1, unassigned, or of scripts whose marks have an order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import nan
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from turnout.serving.router.features import Features, Featurizer, head_and_tail
from turnout.serving.router.native.characters import entries_of
from turnout.serving.router.native.weights import read_rung_weights, read_weights
from turnout.serving.router.prompt import Prompt

if TYPE_CHECKING:
    from turnout.serving.router.native._head import Head

MAX_TAUGHT = 4
"""Blocks of characters that one run may learn, a millisecond each; a text with more new ones is handed over."""
_CONTINUATION = "##"
_LEAST_TOKENS = 8
_LATIN = 0


class NotNative(Exception):
    """The Python path has to serve; the message says why."""


class Found(msgspec.Struct, frozen=True, gc=False):
    """What the first stage says.

    Attributes:
        p_match: of the fast head, calibrated.
        is_open: whether it lies in the exit band, so that the second stage has to look.
        is_unlike: whether the share of rare n-grams is above its limit.
        measures: (16,) float32, as `Features.structural`.
        features: of the prompt, where they are needed; else None.
        p_rungs: calibrated p of each rung between, of a ladder whose heads it holds; else empty.
    """

    p_match: float
    is_open: bool
    is_unlike: bool
    measures: NDArray[np.float32]
    features: Features | None
    p_rungs: tuple[float, ...] = ()


class NativeHead:
    """The fast head of a router graph in C. It runs under the interpreter's lock, which makes it thread-safe."""

    def __init__(self, weights: Mapping[str, NDArray[Any]], featurize: Featurizer) -> None:
        """Take the weights of the graph and the Python path beside which it stands.

        Raises:
            NotNative: the extension is not installed, or it can't hold this graph or tokenizer.
        """
        self._strip, self._pieces = featurize.strip, featurize.word_pieces
        if not self._pieces.knows_words:
            raise NotNative("the tokenizer does not cut words as BERT does")
        self._mark = "[" if all("[" in token for token in self._pieces.added) else ""
        try:
            from turnout.serving.router.native._head import Head  # noqa: PLC0415  # absent where no compiler was
        except ImportError:
            raise NotNative("the extension is not installed (it is built where there is a C compiler)") from None
        try:
            self._head = _open(Head, weights, featurize)
        except (KeyError, ValueError, IndexError, OverflowError) as error:
            raise NotNative(f"it can't hold this bundle: {type(error).__name__}: {error}") from None
        self._teach(_LATIN)

    def look(
        self, prompt: Prompt, threshold: float, also: float | None = None, *, wants_features: bool = False
    ) -> Found | None:
        """Return what the first stage says; features too where it leaves the answer open. None: hand over.

        Args:
            prompt: any prompt, the empty one too.
            threshold: in [0, 1]; it places the exit band.
            also: a second threshold near which it may not answer; None for none.
            wants_features: whether features are wanted in any case.
        """
        read = self._strip(prompt.text)
        text = head_and_tail(read)
        n_bytes = -1 if text is read else len(read.encode("utf-8"))
        facts = n_bytes, prompt.turns, prompt.tools, prompt.wants_json, prompt.images
        near = nan if also is None else also
        found = self._taught(self._head.look, text, *facts, threshold, near, wants_features)
        if found is None:
            return None
        p_match, is_open, is_unlike, raw, parts, p_rungs = found
        measures = np.frombuffer(raw, np.float32)
        features = None if parts is None else _features(parts, measures)
        return Found(p_match, is_open, is_unlike, measures, features, p_rungs)

    def take_rungs(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Say p of the rungs between too, from the weights of their graph.

        Raises:
            NotNative: it can't hold them.
        """
        try:
            self._head.take_rungs(read_rung_weights(weights))
        except (KeyError, ValueError, OverflowError) as error:
            raise NotNative(f"it can't hold these rungs: {type(error).__name__}: {error}") from None

    def drop_rungs(self) -> None:
        """Say nothing of rungs any more."""
        self._head.take_rungs(())

    def ngrams(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
        """Return what `Featurizer.ngrams` does; None: hand over."""
        read = head_and_tail(text)
        found = self._taught(self._head.ngrams, read)
        return None if found is None else (np.frombuffer(found[0], np.int64), np.frombuffer(found[1], np.float32))

    def _taught(self, run: Callable[..., Any], text: str, *more: Any) -> Any:
        """Run on a text, and teach the characters that turn out to be new."""
        if self._mark in text and any(token in text for token in self._pieces.added):
            return None
        found = run(text, *more)
        for _ in range(MAX_TAUGHT):
            if found.__class__ is not int:
                return found
            self._teach(found)
            found = run(text, *more)
        return None if found.__class__ is int else found

    def _teach(self, block: int) -> None:
        self._head.teach(block, entries_of(block, self._pieces.tokenizer))


def _open(head: type[Head], graph: Mapping[str, NDArray[Any]], featurize: Featurizer) -> Head:
    weights, pieces = read_weights(graph), featurize.word_pieces
    model = pieces.tokenizer.model
    if model.continuing_subword_prefix != _CONTINUATION:
        raise ValueError(f"continuing_subword_prefix {model.continuing_subword_prefix!r}")
    if sum(featurize.reads) < _LEAST_TOKENS - 2:
        raise ValueError("max_tokens below 8")
    words, continuations = dict[bytes, int](), dict[bytes, int]()
    for token, number in pieces.vocabulary.items():
        if not token.startswith(_CONTINUATION):
            words[token.encode()] = number
        elif token != _CONTINUATION:
            continuations[token.removeprefix(_CONTINUATION).encode()] = number
    return head(
        words,
        continuations,
        pieces.vocabulary[model.unk_token],
        model.max_input_chars_per_word,
        pieces.ends,
        featurize.reads,
        weights.numbers,
        weights.calibrator,
    )


def _features(parts: tuple[bytes, bytes, bytes], measures: NDArray[np.float32]) -> Features:
    token_ids, buckets, counts = parts
    return Features(
        np.frombuffer(token_ids, np.int64),
        np.frombuffer(buckets, np.int64),
        np.frombuffer(counts, np.float32),
        measures,
    )
