"""Model names: whether the name that a log or a caller gives a model means the one that a pair names."""

from __future__ import annotations

from functools import lru_cache

from turnout.serving.decision.prices import SNAPSHOT


@lru_cache(maxsize=1024)  # asked eight times a row, always of the same few names
def is_model(logged: str, name: str) -> bool:
    """Whether a log's model name means the model `name`: the same, or a dated snapshot of it.

    Upper and lower case are the same. A provider before a slash (`azure/gpt-4o`) counts only where `name` has one.
    """
    if logged == name:
        return True
    logged, name = logged.casefold(), name.casefold()
    if "/" not in name:
        logged = logged.rpartition("/")[2]
    return logged == name or (logged.startswith(name) and SNAPSHOT.fullmatch(logged, len(name)) is not None)
