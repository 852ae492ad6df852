"""Which rungs of a ladder are offered to a request: those that a rule's list names, and that can do what it asks.

Comes in: what the rules file says of models, their context windows, a request. Goes out: `Offered`; None where all are.
Nothing here is learned: what a model can't do is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from turnout.serving.decision.routes import Reason
from turnout.serving.decision.rules.spec import ModelSpec
from turnout.serving.router.languages import script_of
from turnout.serving.router.prompt import Prompt

SCRIPT = " script"
"""Ends the names that `script_of` gives."""
NEEDS: Mapping[str, Callable[[Prompt], object]] = {
    "images": lambda prompt: prompt.has_images,
    "audio": lambda prompt: prompt.audio,
    "files": lambda prompt: prompt.files,
    "video": lambda prompt: prompt.videos,
    "tools": lambda prompt: prompt.tools,
    "json_schema": lambda prompt: prompt.wants_json,
}
"""Keys of a model in a rules file, and what of a request needs each."""


class Offered(msgspec.Struct, frozen=True, gc=False):
    """The rungs that are offered to a request, where not all are.

    Attributes:
        places: of those that are, rising, 0 for the cheapest; may be empty.
        refused: of the others, why: RULE for a rule's list, TOO_LONG for the context window, else CAPABILITY.
    """

    places: tuple[int, ...]
    refused: Mapping[int, Reason]


class Asking(msgspec.Struct, frozen=True, gc=False):
    """What of a request decides on what can answer it: `tokens` are those of its prompt and of the expected answer."""

    prompt: Prompt
    tokens: int
    allow: tuple[str, ...] = ()


class RungLimits(msgspec.Struct, frozen=True):
    """What each rung of one ladder can't do, compiled from a rules file and the price list.

    Attributes:
        names: of the rungs.
        least_tokens: up to so many tokens every rung takes the length.
        longest: of each rung, tokens of prompt and answer that it takes.
        lacking: of each rung, keys of `NEEDS` that it can't.
        scripts: of each rung, those that it reads; None for all.
        is_plain: whether length is all that can rule a rung out.
    """

    names: tuple[tuple[str, str], ...]
    least_tokens: float
    longest: tuple[float, ...]
    lacking: tuple[tuple[str, ...], ...]
    scripts: tuple[frozenset[str] | None, ...]
    is_plain: bool

    @classmethod
    def of(
        cls, names: Sequence[tuple[str, str]], windows: Sequence[float], models: Mapping[str, ModelSpec]
    ) -> RungLimits:
        """Compile them.

        Args:
            names: name and model of each rung; what the file says of `o3:high` goes before what it says of `o3`.
            windows: of each, in tokens, as the price list has them; infinite where it doesn't say.
            models: what the rules file says.
        """
        specs = [models.get(name) or models.get(model) or NO_LIMITS for name, model in names]
        longest = tuple(map(_longest, specs, windows))
        lacking = tuple(tuple(key for key in NEEDS if not getattr(spec, key)) for spec in specs)
        scripts = tuple(None if spec.scripts is None else frozenset(map(str.casefold, spec.scripts)) for spec in specs)
        is_plain = not any(lacking) and all(script is None for script in scripts)
        return cls(tuple(names), min(longest), longest, lacking, scripts, is_plain)

    def offered(self, asking: Asking) -> Offered | None:
        """Return the rungs that are offered; None for all of them."""
        if self.is_plain and asking.tokens <= self.least_tokens and not asking.allow:
            return None
        refused = {
            place: reason for place in range(len(self.names)) if (reason := self._refusal(place, asking)) is not None
        }
        if not refused:
            return None
        return Offered(tuple(place for place in range(len(self.names)) if place not in refused), refused)

    def _refusal(self, place: int, asking: Asking) -> Reason | None:
        if asking.allow and not any(is_named(self.names[place], one) for one in asking.allow):
            return Reason.RULE
        if asking.tokens > self.longest[place]:
            return Reason.TOO_LONG
        if any(NEEDS[key](asking.prompt) for key in self.lacking[place]):
            return Reason.CAPABILITY
        reads = self.scripts[place]
        if reads is not None and (script := script_of(asking.prompt.text)):
            return None if script.removesuffix(SCRIPT).casefold() in reads else Reason.CAPABILITY
        return None


def is_named(rung: tuple[str, str], pattern: str) -> bool:
    """Whether a rule's pattern names a rung: by its name, or by its model whatever the effort."""
    return fnmatchcase(rung[0], pattern) or fnmatchcase(rung[1], pattern)


def _longest(spec: ModelSpec, window: float) -> float:
    own = window if spec.context_window is None else spec.context_window
    return min(own, math.inf if spec.max_estimated_tokens is None else spec.max_estimated_tokens)


NO_LIMITS = ModelSpec()
