"""Prompt caches: what of a request the strong model would have held, had it answered the whole session.

Comes in: a session's requests in their order. Goes out: tokens that would have been cached. A switch of models
finds a cold cache, and so costs more than the price list says; a session that stays is what to compare with.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

MIN_TOKENS = 1024
GRANULE = 128
"""The vendor of the default pair caches prefixes from 1,024 tokens on, in steps of 128."""

LIFE_S = 600.0
"""It lets go of a prefix after five to ten minutes without use: the longer one, which favours all-strong."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One request of a session.

    Attributes:
        created_s: when it was decided.
        model: that answered.
        prompt_tokens: of the whole prompt, earlier turns included.
        cached_tokens: that the model had cached, as its vendor said; 0 where it did not.
    """

    created_s: float
    model: str
    prompt_tokens: int
    cached_tokens: int


def warm_tokens(turns: Sequence[Turn]) -> list[int]:
    """Return for each request of a session the tokens that would have been cached, had no request been a switch.

    Where the request before went to the same model, that is what was cached. After a switch it is the prompt before,
    if this one can go on from it: at least as long, and within the life of a cache.
    """
    found = [turn.cached_tokens for turn in turns[:1]]
    for before, turn in itertools.pairwise(turns):
        kept = turn.cached_tokens if before.model == turn.model else max(turn.cached_tokens, _prefix(before, turn))
        found.append(min(kept, turn.prompt_tokens))
    return found


def _prefix(before: Turn, turn: Turn) -> int:
    goes_on = turn.prompt_tokens >= before.prompt_tokens and turn.created_s - before.created_s <= LIFE_S
    if not goes_on or before.prompt_tokens < MIN_TOKENS:
        return 0
    return before.prompt_tokens // GRANULE * GRANULE
