"""The traffic on which a bundle was measured, as counts by bin: what live traffic is held against.

The bytes of a bundle's `report/evaluation.json` in, `Baseline` out; None from bundles that lack the distributions.
Serving and `turnout drift` bin by the very same cuts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.limits import OUT_OF_DISTRIBUTION, P_MATCH
from turnout.serving.router.features import STRUCTURAL
from turnout.serving.router.unseen import MEASURES

EVALUATION = "report/evaluation.json"

MIN_BIN_SHARE = 0.08
"""Narrow bins are joined until they hold so much, which leaves at most 13: of some ten, the usual number for a PSI. The
rest at the right end stays apart, however little: a measure that was 0 in 99 % would else have one bin alone."""


MIN_BIN_ROWS = 10
"""Rows of the baseline under which that rest joins its neighbour, unless it has only one: the chi-square law asks for
some five rows in each bin, of the window too."""


class _Spread(msgspec.Struct, frozen=True):
    """What is read of one distribution; edges and counts as in `training.evaluation.evaluation.Distribution`."""

    name: str
    edges: list[float]
    n: list[int]


class _Task(msgspec.Struct, frozen=True):
    """What is read of the slice of a task."""

    name: str
    n: int


class _Slices(msgspec.Struct, frozen=True):
    """What is read of all slices."""

    task: list[_Task] = []


class _Sliced(msgspec.Struct, frozen=True):
    """What is read of an evaluation for its tasks."""

    slices: _Slices = _Slices()


class _Measured(msgspec.Struct, frozen=True):
    """What is read of an evaluation."""

    n: int
    drift: list[_Spread] = []
    share_out_of_distribution: float = 0.0


@dataclass(frozen=True, slots=True)
class Bins:
    """One measure, cut into bins.

    Attributes:
        name: `p_match`, `out_of_distribution`, or a key of `turnout.serving.router.features.STRUCTURAL`.
        cuts: (k - 1,) ascending; a value on a cut belongs to the bin on its right.
        n: rows of the baseline in each of the k bins.
    """

    name: str
    cuts: NDArray[np.float64]
    n: tuple[float, ...]

    def holds_only(self, value: float) -> bool:
        """Whether the measure was this value in every row."""
        is_single = len(self.n) == 3 and self.n[0] == self.n[2] == 0.0
        return is_single and self.cuts[0] == value and self.cuts[1] == np.nextafter(value, np.inf)

    def codes(self, values: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Return the bin of each of (r,) values."""
        return np.searchsorted(self.cuts, values, side="right").astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Baseline:
    """Bins of `p_match`, of each structural measure and of what is out of distribution, in that order; `n` rows."""

    n: int
    bins: tuple[Bins, ...]


def read_baseline(evaluation: bytes | None) -> Baseline | None:
    """Return the baseline in an `evaluation.json`; None where there is none of all measures."""
    if evaluation is None:
        return None
    try:
        found = msgspec.json.decode(evaluation, type=_Measured)
    except msgspec.MsgspecError:
        return None  # its digest holds, so another program wrote it: the bundle serves without a baseline
    spreads = {one.name: one for one in found.drift}
    if found.n < 1 or not {P_MATCH, *STRUCTURAL} <= spreads.keys():
        return None
    bins = [bins_of(name, spreads[name].edges, spreads[name].n) for name in (P_MATCH, *STRUCTURAL)]
    share = found.share_out_of_distribution
    unlike = Bins(OUT_OF_DISTRIBUTION, np.array([0.5]), (found.n * (1 - share), found.n * share))
    return Baseline(found.n, (*bins, unlike))


def read_tasks(evaluation: bytes | None) -> dict[str, int]:
    """Return how many rows of each task an `evaluation.json` is of; empty where it names none."""
    if evaluation is None:
        return {}
    try:
        found = msgspec.json.decode(evaluation, type=_Sliced)
    except msgspec.MsgspecError:
        return {}  # as for the baseline
    return {one.name: one.n for one in found.slices.task if one.name}


def bins_of(name: str, edges: Sequence[float], n: Sequence[int]) -> Bins:
    """Return bins of some mass from a histogram; a single value gets bins for less, for itself and for more.

    Args:
        name: of the measure.
        edges: (b + 1,) ascending; two equal ones for a measure that never varied.
        n: (b,) rows between them, those beyond in the outermost.
    """
    if edges[0] == edges[-1]:
        return Bins(name, np.array([edges[0], np.nextafter(edges[0], np.inf)]), (0.0, float(sum(n)), 0.0))
    cuts, counts, held = [], [], 0.0
    for edge, count in zip(edges[1:], n, strict=True):
        held += count
        if held >= MIN_BIN_SHARE * sum(n):
            cuts.append(edge)
            counts.append(held)
            held = 0.0
    if held < MIN_BIN_ROWS and (len(cuts) > 1 or held == 0.0):  # too little to stand apart
        cuts.pop()
        held += counts.pop()
    counts.append(held)
    return Bins(name, np.array(cuts), tuple(counts))


def unseen_in(baseline: Baseline | None) -> tuple[str, ...]:
    """Return what none of the rows behind a baseline had; nothing where there is no baseline to tell by."""
    if baseline is None:
        return ()
    bins = {one.name: one for one in baseline.bins}
    return tuple(name for name, measure in MEASURES.items() if bins[measure].holds_only(0.0))
