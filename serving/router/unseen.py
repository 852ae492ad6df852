"""What a bundle's training never had: images, tools, answers in JSON.

Comes in: what the manifest says, or, for bundles from before it did, the baseline of the traffic that the bundle was
measured on: a measure that was 0 in every one of its rows. Goes out: names, for the card, for `DescribeModel`, and for
the model, which calls a prompt that has any of them unlike its training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from turnout.serving.router.features import STRUCTURAL

if TYPE_CHECKING:
    from turnout.serving.bundles.baseline import Baseline

MEASURES = {"images": "log_images", "tools": "log_tools", "json": "wants_json"}
"""The name of each, and the structural measure that is 0 without it."""


def unseen_in(baseline: Baseline | None) -> tuple[str, ...]:
    """Return what none of the rows behind a baseline had; nothing where there is no baseline to tell by."""
    if baseline is None:
        return ()
    bins = {one.name: one for one in baseline.bins}
    return tuple(name for name, measure in MEASURES.items() if bins[measure].holds_only(0.0))


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
