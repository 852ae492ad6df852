"""The figures of the drift page: measures against their limits, their distributions, and their course in time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from turnout.training.drift.compare import DriftMeasure, DriftMoment, DriftReport
from turnout.training.report.style import INK, MISS, MUTED, OTHER, ROUTER, STYLE, SavedFigure, save

COLUMNS = 4
MAX_PANELS = 8
MAX_LINES = 4
MOST_OVER = 5.0
"""Bars end here, five times the limit: what is further off is no less off."""


def draw(report: DriftReport) -> dict[str, SavedFigure]:
    """Return `limits` and `spread` where there are measures, and `course` where there are two moments or more."""
    with mpl.rc_context(STYLE):
        figures = {}
        if report.measures:
            figures["limits"] = _limits(report.measures)
        binned = [one for one in report.measures if one.cuts]
        if binned:
            figures["spread"] = _spread(binned[:MAX_PANELS])
        if len(report.moments) > 1:
            figures["course"] = _course(report.moments)
        return {name: save(figure, name) for name, figure in figures.items()}


def _limits(measures: Sequence[DriftMeasure]) -> Figure:
    figure = Figure(figsize=(8.2, 0.9 + 0.26 * len(measures)), layout="constrained")
    axes = figure.add_subplot()
    over = [min(one.value / one.limit, MOST_OVER) for one in measures]
    colours = [MISS if one.is_beyond else ROUTER for one in measures]
    axes.barh(range(len(measures)), over, color=colours, height=0.62)
    axes.axvline(1.0, color=INK, linewidth=1.1)
    axes.set_yticks(range(len(measures)), [one.name for one in measures])
    axes.invert_yaxis()
    axes.set_xlim(0, max(1.25, *over))
    axes.set_xlabel("Value over its limit")
    axes.grid(visible=False, axis="y")
    return figure


def _spread(measures: Sequence[DriftMeasure]) -> Figure:
    n_lines = -(-len(measures) // COLUMNS)
    layout = ConstrainedLayoutEngine(wspace=0.05, hspace=0.06)
    figure = Figure(figsize=(8.2, 0.7 + 1.4 * n_lines), layout=layout)
    grid = figure.subplots(n_lines, COLUMNS, squeeze=False).ravel()
    for axes, one in zip(grid, measures, strict=False):
        _panel(axes, one)
    for axes in grid[len(measures) :]:
        axes.set_axis_off()
    handles = grid[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper left", ncols=2)
    return figure


def _panel(axes: Axes, one: DriftMeasure) -> None:
    places = np.arange(len(one.expected))
    axes.bar(places - 0.2, one.expected, 0.4, color=OTHER, linewidth=0, label="baseline")
    axes.bar(places + 0.2, one.found, 0.4, color=MISS if one.is_beyond else ROUTER, linewidth=0, label="this log")
    axes.set_title(one.name, fontsize=9)
    axes.set_xticks([places[0], places[-1]], [f"< {one.cuts[0]:.3g}", f"\u2265 {one.cuts[-1]:.3g}"])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
    axes.tick_params(labelsize=8)


def _course(moments: Sequence[DriftMoment]) -> Figure:
    figure = Figure(figsize=(8.2, 3.4), layout="constrained")
    axes = figure.add_subplot()
    names = sorted({name for one in moments for name in one.over_limit})
    highest = {name: max(one.over_limit.get(name, 0.0) for one in moments) for name in names}
    shown = sorted(names, key=lambda name: -highest[name])[:MAX_LINES]
    x = [dt.datetime.fromtimestamp(one.created_s or 0.0, dt.UTC) for one in moments]
    for name, colour, dashes in zip(
        shown, (MISS, ROUTER, MUTED, OTHER), ((1, 0), (5, 2), (2, 2), (7, 2, 1, 2)), strict=False
    ):
        y = [one.over_limit.get(name, np.nan) for one in moments]
        axes.plot(np.array(x), y, color=colour, dashes=dashes, marker="o", markersize=3, label=name)
    axes.axhline(1.0, color=INK, linewidth=1.1)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("Value over its limit")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4)
    figure.autofmt_xdate(rotation=0, ha="center")
    return figure
