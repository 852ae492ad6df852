"""The explorer's plot: quality over the share that goes weak, drawn once, with a mark that the script moves.

Comes in: the threshold table, and what two looks do. Goes out: coordinates in a box of 1000 by 366, from the upper
left; titles of the axes stand outside of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from turnout.training.evaluation.evaluation import ThresholdTable
from turnout.training.evaluation.looks import Path

LEFT, RIGHT, TOP, BOTTOM = 70.0, 972.0, 12.0, 332.0
STEPS = (0.005, 0.01, 0.02, 0.025, 0.05, 0.1, 0.2)
MOST_LINES = 8


class Tick(msgspec.Struct, frozen=True):
    """A line across the plot and what stands beside it."""

    at: float
    text: str


class Plot(msgspec.Struct, frozen=True):
    """What the template draws.

    Attributes:
        line, band: points of SVG polylines; the band is closed, None without bootstraps.
        rows, columns: lines of equal quality and of equal share.
        least, most: quality at the bottom and at the top.
        bottom: of the axis.
    """

    line: str
    band: str | None
    rows: list[Tick]
    columns: list[Tick]
    least: float
    most: float
    bottom: float = BOTTOM

    def y(self, quality: float) -> float:
        """Return how far below the upper edge a quality lies."""
        return _y(quality, self.least, self.most)


class Curve(msgspec.Struct, frozen=True):
    """Points of SVG polylines; the band is closed, None without bootstraps."""

    line: str
    band: str | None


def plot_of(table: ThresholdTable, path: Path | None = None) -> Plot | None:
    """Return the plot; None where the strong model scored nothing, so that there is no quality.

    Args:
        table: of one look.
        path: of two looks, which the scale must hold as well; None for none.
    """
    if table.quality is None:
        return None
    ends = [*(table.quality_low or table.quality), *(table.quality_high or table.quality)]
    if path is not None and path.quality is not None:
        ends += [*(path.quality_low or path.quality), *(path.quality_high or path.quality)]
    step = next((step for step in STEPS if (max(ends) - min(ends)) / step < MOST_LINES - 1), STEPS[-1])
    first = int(np.floor(min(ends) / step))
    last = max(int(np.ceil(max(ends) / step)), first + 1)  # of a flat curve on a line both are the same
    empty = Plot("", None, [], [], first * step, last * step)
    drawn = curve_of(table.share_weak, table.quality, table.quality_low, table.quality_high, empty)
    return msgspec.structs.replace(
        empty,
        line="" if drawn is None else drawn.line,
        band=None if drawn is None else drawn.band,
        rows=[Tick(empty.y(number * step), f"{100 * number * step:.4g} %") for number in range(first, last + 1)],
        columns=[Tick(x_of(share / 100), f"{share} %") for share in range(0, 101, 20)],
    )


def curve_of(
    share: Sequence[float],
    quality: Sequence[float] | None,
    low: Sequence[float] | None,
    high: Sequence[float] | None,
    plot: Plot,
) -> Curve | None:
    """Return a curve on a plot's scale; None without quality."""
    if quality is None:
        return None
    x = [x_of(one) for one in share]
    line = _points([(at, plot.y(one)) for at, one in zip(x, quality, strict=True)])
    if low is None or high is None:
        return Curve(line, None)
    around = [*zip(x, low, strict=True), *reversed(list(zip(x, high, strict=True)))]
    return Curve(line, _points([(at, plot.y(one)) for at, one in around]))


def x_of(share_weak: float) -> float:
    """Return how far right a share lies."""
    return round(LEFT + (RIGHT - LEFT) * share_weak, 1)


def _y(quality: float, least: float, most: float) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * (quality - least) / (most - least), 1)


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)
