"""Models: whether the name that a log gives a model means a model of the pair."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from serving.bundle import Pair
from serving.prices import SNAPSHOT


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


def is_pair_model(logged: str, pair: Pair) -> bool:
    """Whether a log's model name means either model of the pair."""
    return is_model(logged, pair.strong) or is_model(logged, pair.weak)


def model_of(names: Iterable[str | None], pair: Pair) -> str:
    """Return the first of a row's names for its model that means one of the pair, else the first there is.

    A gateway logs several: the alias that callers use, its own name with the provider, the provider's snapshot.
    """
    found = [name for name in names if name]
    return next((name for name in found if is_pair_model(name, pair)), found[0] if found else "")
