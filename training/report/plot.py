"""The explorer's plot: quality over the share that goes weak, drawn once, with a mark that the script moves.

Comes in: the threshold table. Goes out: coordinates in a box of 1000 by 220, from the upper left.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from turnout.training.evaluation.evaluation import ThresholdTable

LEFT, RIGHT, TOP, BOTTOM = 70.0, 972.0, 12.0, 186.0
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
    """

    line: str
    band: str | None
    rows: list[Tick]
    columns: list[Tick]
    least: float
    most: float

    def y(self, quality: float) -> float:
        """Return how far below the upper edge a quality lies."""
        return _y(quality, self.least, self.most)


def plot_of(table: ThresholdTable) -> Plot | None:
    """Return the plot; None where the strong model scored nothing, so that there is no quality."""
    if table.quality is None:
        return None
    low, high = table.quality_low or table.quality, table.quality_high or table.quality
    step = next((step for step in STEPS if (max(high) - min(low)) / step < MOST_LINES - 1), STEPS[-1])
    first, last = int(np.floor(min(low) / step)), int(np.ceil(max(high) / step))
    least, most = first * step, last * step
    x = [x_of(share) for share in table.share_weak]
    has_band = table.quality_low is not None
    around = [*zip(x, low, strict=True), *reversed(list(zip(x, high, strict=True)))]
    return Plot(
        line=_points([(at, _y(quality, least, most)) for at, quality in zip(x, table.quality, strict=True)]),
        band=_points([(at, _y(quality, least, most)) for at, quality in around]) if has_band else None,
        rows=[
            Tick(_y(number * step, least, most), f"{100 * number * step:.4g} %") for number in range(first, last + 1)
        ],
        columns=[Tick(x_of(share / 100), f"{share} %") for share in range(0, 101, 20)],
        least=least,
        most=most,
    )


def x_of(share_weak: float) -> float:
    """Return how far right a share lies."""
    return round(LEFT + (RIGHT - LEFT) * share_weak, 1)


def _y(quality: float, least: float, most: float) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * (quality - least) / (most - least), 1)


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)
