"""Models: which of the names that a log gives a model mean a model of the pair."""

from __future__ import annotations

import re
from collections.abc import Iterable

from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.model_names import is_model

_VENDOR_NAME = re.compile(
    r"(?:chat)?gpt-?[345]|o[134](?:-|$)|claude|gemini|gemma|llama|mi[sx]tral|ministral|command-|deepseek|qwen|grok|phi-|nova-"
)
"""How names begin that vendors give their models; a deployment may be called anything else."""


def is_vendor_name(logged: str) -> bool:
    """Whether a name is one that a vendor gave a model, not that of a deployment or an alias."""
    return _VENDOR_NAME.match(re.split(r"[/:]", logged.casefold())[-1]) is not None


def is_pair_model(logged: str, pair: Pair) -> bool:
    """Whether a log's model name means either model of the pair."""
    return is_model(logged, pair.strong) or is_model(logged, pair.weak)


def model_of(names: Iterable[str | None], pair: Pair) -> str:
    """Return the first of a row's names for its model that means one of the pair, else the first there is.

    A gateway logs several: the alias that callers use, its own name with the provider, the provider's snapshot.
    """
    found = [name for name in names if name]
    return next((name for name in found if is_pair_model(name, pair)), found[0] if found else "")
