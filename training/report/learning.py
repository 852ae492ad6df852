"""The figure of the learning curve: what more labelled rows were worth, and what yet more may be."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import NullLocator, PercentFormatter

from turnout.serving.bundles.manifest import Pair
from turnout.training.evaluation.evaluation import LearningCurve
from turnout.training.report.style import MUTED, ROUTER

NEAREST = 1.8


def draw_learning_curve(curve: LearningCurve, pair: Pair) -> Figure:
    """AUROC, APGR and the share at 99 % quality over the rows fitted on, with 95 % intervals."""
    panels = {"auroc": "AUROC", "apgr": "APGR", "share_at_quality.0.99": f"To {pair.weak} at 99 % quality"}
    figure = Figure(figsize=(8.2, 3.0), layout=ConstrainedLayoutEngine(wspace=0.06))
    for axes, (name, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        points = [point for point in curve.points if point.figures.get(name) is not None]
        rows = [point.rows for point in points]
        values = np.array([point.figures[name] for point in points], dtype=np.float64)
        bounds = [point.intervals.get(name) for point in points]
        known = [(row, bound[0], bound[1]) for row, bound in zip(rows, bounds, strict=True) if bound is not None]
        if known:
            axes.fill_between(*zip(*known, strict=True), color=ROUTER, alpha=0.16, linewidth=0)
        axes.plot(rows, values, color=ROUTER, linewidth=1.8, marker="o", markersize=4.5)
        if curve.enough_rows is not None:
            axes.axvline(curve.enough_rows, color=MUTED, linewidth=1, dashes=(4, 3))
        axes.set_title(title, fontsize=10)
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(rows, _labels(rows))
        axes.margins(x=0.08)
        if name.startswith("share"):
            axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    figure.supxlabel("Rows fitted on", fontsize=10)
    return figure


def _labels(rows: list[int]) -> list[str]:
    """Text of each tick; none where the next stands so near that the two would run together."""
    following = [*rows[1:], 10 * rows[-1]] if rows else []
    return [_thousands(row) if after >= NEAREST * row else "" for row, after in zip(rows, following, strict=True)]


def _thousands(rows: int) -> str:
    return f"{rows / 1000:.3g}k" if rows >= 1000 else str(rows)
