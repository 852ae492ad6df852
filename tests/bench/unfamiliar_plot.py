"""The frontier of `tests.bench.unfamiliar` as an SVG: what is gained on easy prompts, what held-out families lose.

Comes in: for each guard, points of (easy to the weak, hard to the weak, worse on average, worse at worst), shares.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from turnout.training.report.style import STYLE, save

Point = tuple[float, float, float, float]
AIMS = (0.5, 0.1, 0.05, 0.08)


def draw(lines: dict[str, list[Point]], path: Path) -> None:
    """Write the plot."""
    with mpl.rc_context(STYLE):
        path.write_bytes(save(figure_of(lines), "frontier").svg)


def figure_of(lines: dict[str, list[Point]]) -> Figure:
    """Draw three panels over the share of easy prompts that go weak; the aims are dashed."""
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    panels = figure.subplots(1, 3)
    titles = ("held-out families: worse, mean", "held-out families: worse, worst one", "hard prompts to the weak")
    for axes, place, title in zip(panels, (2, 3, 1), titles, strict=True):
        for name, points in lines.items():
            axes.plot([100 * one[0] for one in points], [100 * one[place] for one in points], ".-", label=name)
        axes.axhline(100 * AIMS[place], linestyle="--", linewidth=0.8)
        axes.axvline(100 * AIMS[0], linestyle="--", linewidth=0.8)
        axes.set(title=title, xlabel="% of easy prompts to the weak", ylabel="%")
    panels[0].legend(title="limit of unfamiliarity", fontsize=7)
    return figure
