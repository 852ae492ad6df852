"""What a bundle's training never had: images, tools, answers in JSON.

Comes in: what the manifest says, or, for bundles from before it did, the baseline of the traffic that the bundle was
measured on: a measure that was 0 in every one of its rows. Goes out: names, for the card, for `DescribeModel`, and for
the model, which calls a prompt that has any of them unlike its training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from turnout.serving.router.features import STRUCTURAL

MEASURES = {"images": "log_images", "tools": "log_tools", "json": "wants_json"}
"""The name of each, and the structural measure that is 0 without it."""


def unseen_among(edges: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """Return the same from the edges of each measure's histogram: two equal ones for a measure that never varied."""
    return tuple(
        name for name, measure in MEASURES.items() if (found := edges.get(measure)) and found[0] == found[-1] == 0.0
    )


def places_of(unseen: Iterable[str]) -> tuple[int, ...]:
    """Return where in the vector of structural measures a number other than 0 tells of what was never seen."""
    measures = list(STRUCTURAL)
    return tuple(measures.index(MEASURES[name]) for name in unseen)


def said_of(unseen: Iterable[str]) -> str:
    """Return a sentence for people; empty where all were seen."""
    names = ", ".join({"json": "JSON mode"}.get(name, name) for name in unseen)
    return f"Never seen in training, and so taken as unlike it: {names}." if names else ""
