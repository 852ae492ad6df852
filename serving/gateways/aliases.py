"""Names that stand for the router where a gateway expects the name of a model.

    auto                        the server's default policy, or that of its rules
    turnout-<policy>            turnout-max_worse=0.05; turnout-threshold=0.9 for a plain threshold
    router-<name>-<threshold>   as RouteLLM's callers write it, with RouteLLM's threshold

A threshold is Turnout's in Turnout's alias: p_match at or above it goes weak. RouteLLM's is the probability that the
strong model's answer is better, at which the strong model is used: 1 minus Turnout's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

AUTO = "auto"
PREFIX = "turnout-"
OWN_THRESHOLD = "threshold="
ROUTELLM = re.compile(r"router-(?P<name>.+)-(?P<threshold>\d*\.?\d+)")
ROUTELLM_ROUTERS = frozenset({"mf", "bert", "causal_llm", "sw_ranking", "random"})
"""Routers of RouteLLM's own: their names stand for the default bundle; any other name is that of a bundle."""


@dataclass(frozen=True, slots=True)
class Alias:
    """What a name asks for; with `RouteItem`'s meaning of policy, threshold and bundle."""

    policy: str | None = None
    threshold: float | None = None
    bundle: str | None = None


def alias_of(model: object) -> Alias | None:
    """Return what a model's name stands for; None when it is the name of a model.

    A policy or bundle that the server lacks is not known here: the router falls back to the strong model then.
    """
    if not isinstance(model, str):
        return None
    if model == AUTO:
        return Alias()
    if model.startswith(PREFIX):
        return _turnout_alias(model.removeprefix(PREFIX))
    found = ROUTELLM.fullmatch(model)
    if found is None:
        return None
    bundle = None if found["name"] in ROUTELLM_ROUTERS else found["name"]
    return Alias(threshold=1.0 - float(found["threshold"]), bundle=bundle)


def _turnout_alias(policy: str) -> Alias:
    try:
        threshold = float(policy.removeprefix(OWN_THRESHOLD)) if policy.startswith(OWN_THRESHOLD) else None
    except ValueError:  # no such policy either, and the server says so
        threshold = None
    return Alias(policy=policy) if threshold is None else Alias(threshold=threshold)
