"""Which words make a prompt unlike the training data: for people who ask why a request went strong.

Comes in: the bytes of `router.onnx` and a text. Goes out: the share of its n-grams that are rare, as the graph counts
them, the share beyond which it calls a prompt out of distribution, and the words and pairs of words that are rare.
Nothing of this is on the path of a request.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.serving.router.features import Featurizer
from turnout.serving.router.graph_parts import weights_of
from turnout.serving.router.prompt import Prompt

WEIGHTS, RARE_FROM, LIMIT = "idf", "rare_idf", "rare_share_limit"
"""Constants of the graph; a graph without them calls no prompt out of distribution by its words."""

MAX_WORDS = 300
"""Words that are looked at one by one; a word takes 50 microseconds, and nobody reads on."""

MAX_NAMED = 30

_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Strangeness:
    """How unlike the training data the words of a text are.

    Attributes:
        rare_share: of its distinct n-grams, in [0, 1].
        limit: beyond which a text is out of distribution, in [0, 1].
        words: of the text that are rare themselves, in their order, each once; at most 30.
        pairs: of neighbouring words, rare as a pair alone; likewise.
    """

    rare_share: float
    limit: float
    words: list[str]
    pairs: list[str]


class StrangeWords:
    """The rule of one graph. Thread-safe."""

    def __init__(self, is_rare: NDArray[np.bool_], limit: float) -> None:
        """Take (2**18,) whether each bucket of n-grams is rare, and the limit."""
        self._is_rare = is_rare
        self._limit = limit

    @classmethod
    def of(cls, graph: bytes) -> StrangeWords | None:
        """Return the rule that a router graph holds; None where it has none."""
        found = weights_of(graph)
        if not {WEIGHTS, RARE_FROM, LIMIT} <= found.keys():
            return None
        return cls(found[WEIGHTS] >= found[RARE_FROM].item(), found[LIMIT].item())

    def look(self, featurize: Featurizer, prompt: Prompt) -> Strangeness:
        """Return what is strange in a prompt, read as the model reads it."""
        buckets = featurize(prompt).buckets
        share = float(self._is_rare[buckets].sum() / max(1, buckets.size))
        words = _WORD.findall(featurize.read(prompt.text))[:MAX_WORDS]
        strange = {word: self._has_rare(featurize, word) for word in dict.fromkeys(words)}
        pairs = [
            f"{one} {other}"
            for one, other in itertools.pairwise(words)
            if not (strange[one] or strange[other]) and self._has_rare(featurize, f"{one} {other}")
        ]
        named = [word for word, is_strange in strange.items() if is_strange]
        return Strangeness(share, self._limit, named[:MAX_NAMED], list(dict.fromkeys(pairs))[:MAX_NAMED])

    def _has_rare(self, featurize: Featurizer, text: str) -> bool:
        return bool(self._is_rare[featurize.ngrams(text)[0]].any())
