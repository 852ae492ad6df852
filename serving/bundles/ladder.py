"""The ladder as a bundle holds it: its rungs, the cheapest first, and what each of them can do.

Plain values. A pair is the ladder of two and says nothing of rungs: its manifest is the same without them.
"""

from __future__ import annotations

import msgspec


class Rung(msgspec.Struct, frozen=True):
    """One model of a ladder, or one model at one reasoning effort.

    Attributes:
        name: `model` or `model:effort`, as the operator gave it to `--models`.
        model: as it is to be put into the `model` field of a request.
        effort: as it is to be put into its `reasoning_effort`; empty for none.
        rows: labelled rows that taught its head; of the top, those that have all rungs.
        match_rate: share of them in which it was not worse than the top, in [0, 1]; 1 for the top.
        metrics, intervals: of its p, on rows told by fits without their group, named as those of the first look.
    """

    name: str
    model: str
    effort: str = ""
    rows: int = 0
    match_rate: float = 1.0
    metrics: dict[str, float | None] = {}
    intervals: dict[str, tuple[float, float]] = {}


def rung_of(name: str) -> Rung:
    """Return the rung that `model` or `model:effort` names; only `EFFORTS` are efforts: `ft:...` stays whole."""
    model, colon, effort = name.rpartition(":")
    return Rung(name, model, effort) if colon and effort in EFFORTS else Rung(name, name)


EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh"})
"""Values of `reasoning_effort` that OpenAI's reference names."""
