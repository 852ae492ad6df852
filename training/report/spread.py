"""The figure of the drift baseline: how `p_match` and each structural measure are spread on the test part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from turnout.training.evaluation.evaluation import Distribution
from turnout.training.report.style import INK, OTHER, ROUTER

COLUMNS = 4


def draw_drift(drift: Sequence[Distribution]) -> Figure:
    """One histogram a number that varies, its median marked; those that never vary are left out."""
    shown = [one for one in drift if one.sd > 0]
    n_lines = max(1, -(-len(shown) // COLUMNS))
    figure = Figure(figsize=(8.2, 0.5 + 1.3 * n_lines), layout=ConstrainedLayoutEngine(wspace=0.05, hspace=0.06))
    grid = figure.subplots(n_lines, COLUMNS, squeeze=False).ravel()
    for axes, one in zip(grid, shown, strict=False):
        _panel(axes, one)
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    return figure


def _panel(axes: Axes, one: Distribution) -> None:
    colour = ROUTER if one.name == "p_match" else OTHER
    edges = np.array(one.edges)
    axes.bar(edges[:-1], one.n, np.diff(edges), align="edge", color=colour, linewidth=0)
    axes.axvline(one.quantiles[2], color=INK, linewidth=1.1)
    axes.set_title(one.name, fontsize=9)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
    axes.locator_params(axis="x", nbins=3)
    axes.tick_params(labelsize=8)
