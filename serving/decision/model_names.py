"""Model names: whether the name that a log or a caller gives a model means the one that a pair names."""

from __future__ import annotations

import re
from functools import lru_cache

VARIANTS = frozenset({"online", "free", "nitro", "floor", "extended", "exacto"})
"""What OpenRouter writes behind a colon to say how a model is to be reached: the same model answers."""

FINE_TUNED = "ft:"
"""`ft:gpt-4o-mini:org::id` is a model of its own, whatever it was made from."""

_DATE = re.compile(r"[-@_: ]?\(?(?:\d{4}-?\d{2}-?\d{2}|latest|default)\)?")
"""What may follow a name: the date of a snapshot, however it is tied on, or that the newest is meant."""


@lru_cache(maxsize=1024)  # asked eight times a row, always of the same few names
def is_model(logged: str, name: str) -> bool:
    """Whether a log's model name means the model `name`: the same, or a dated snapshot of it.

    Upper and lower case are the same. A provider before a slash or a colon (`azure/gpt-4o`, `openai:gpt-4o`) counts
    only where `name` has one, and how the model was reached (`gpt-4o:online`) never does.
    """
    if logged == name:
        return True
    logged, name = logged.strip().casefold(), name.casefold()
    if FINE_TUNED in logged and FINE_TUNED not in name:
        return False
    if "/" not in name:
        logged = logged.rpartition("/")[2]
    return any(_is_snapshot(one, name) for one in (logged, *_without_notation(logged, name)))


def _is_snapshot(logged: str, name: str) -> bool:
    return logged == name or (logged.startswith(name) and _DATE.fullmatch(logged, len(name)) is not None)


def _without_notation(logged: str, name: str) -> list[str]:
    """Return the name without variants behind it and without providers before it, as far as colons mark them."""
    while (parts := logged.rpartition(":"))[1] and parts[2] in VARIANTS:
        logged = parts[0]
    if ":" in name:
        return [logged]
    *before, last = logged.split(":")
    dated = f"{before[-1]}:{last}" if before else ""
    return [logged, last, dated]
