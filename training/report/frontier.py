"""The frontier as a figure: quality over microseconds, one point a union of parts.

Comes in: the points of `turnout.training.assess.frontier`. Goes out: PNG and SVG.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from turnout.training.assess.frontier import FrontierPoint
from turnout.training.report.style import INK, MUTED, OTHER, ROUTER, STYLE, save


def named(point: FrontierPoint, *, several_encoders: bool) -> str:
    """Return the parts, and the encoder's name where there are several."""
    return f"{point.parts} ({point.encoder})" if several_encoders and point.encoder else point.parts


def draw_frontier(points: Sequence[FrontierPoint]) -> Figure:
    """Draw APGR (AUROC where that is unknown) over microseconds; points that another beats in both are grey."""
    uses_apgr = all(point.apgr is not None for point in points)
    several = len({point.encoder for point in points if point.encoder}) > 1
    figure = Figure(figsize=(8.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    ranked = sorted(points, key=lambda point: _height(point, uses_apgr=uses_apgr))
    for rank, point in enumerate(ranked):
        y, colour = _height(point, uses_apgr=uses_apgr), ROUTER if point.is_on_frontier else OTHER
        axes.plot(point.us, y, "o", color=colour)
        side, x = (("left", 7), ("right", -7))[rank % 2]  # neighbours in height are labelled on either side
        axes.annotate(
            named(point, several_encoders=several),
            (point.us, y),
            xytext=(x, 0),
            textcoords="offset points",
            ha=side,
            va="center",
            fontsize=8,
            color=INK if point.is_on_frontier else MUTED,
        )
    axes.set(
        xscale="log",
        xlabel="microseconds a prompt, one thread (median)",
        ylabel="APGR, out of fold" if uses_apgr else "AUROC, out of fold",
        title="What each part is worth, and what it costs",
    )
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))  # powers of ten are set as mathematics, which is off
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.5, y=0.15)
    return figure


def write_frontier(points: Sequence[FrontierPoint], out: Path) -> None:
    """Write `frontier.png` and `frontier.svg` into a folder, made if absent."""
    with mpl.rc_context(STYLE):
        drawn = save(draw_frontier(points), "frontier")
    out.mkdir(parents=True, exist_ok=True)
    (out / "frontier.png").write_bytes(drawn.png)
    (out / "frontier.svg").write_bytes(drawn.svg)


def _height(point: FrontierPoint, *, uses_apgr: bool) -> float:
    return (point.apgr if uses_apgr else point.auroc) or 0.0
