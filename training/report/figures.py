"""The report's figures, each drawn once and saved twice: PNG to share, SVG inside the page.

In the SVG every colour is a CSS variable, so that the page's light and dark colours are the figure's too,
and text stays text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter

from serving.bundle import Manifest
from training.evaluation import Evaluation, Histogram, ReliabilityBin

INK, MUTED, GRID, PAPER = "#1b2430", "#5b6675", "#dde2e8", "#fffffe"
ROUTER, ORACLE, OTHER, MISS = "#0b6e6e", "#8a5a00", "#7a828e", "#c2410c"
VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    PAPER: "paper",
    ROUTER: "router",
    ORACLE: "oracle",
    OTHER: "other",
    MISS: "miss",
}
BASELINE_NAMES = {
    "random": "random",
    "prompt_length": "prompt length",
    "encoder_lr": "encoder + LR",
    "oracle": "oracle (hindsight)",
}
_DASHES = ((1, 2), (5, 2), (7, 2, 1, 2), (3, 1, 1, 1), (9, 3))
_DPI = 160
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a model's name is a dollar
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "svg.fonttype": "none",
}


def draw_all(manifest: Manifest, evaluation: Evaluation) -> dict[str, tuple[bytes, str]]:
    """Return PNG bytes and inline SVG by name: `cost_quality`, `reliability`, `p_match`."""
    with mpl.rc_context(_STYLE):
        drawn = {
            "cost_quality": draw_cost_quality(manifest, evaluation),
            "reliability": draw_reliability(evaluation),
            "p_match": draw_p_match(manifest, evaluation),
        }
        return {name: (_png(figure), _svg(figure, name)) for name, figure in drawn.items()}


def draw_cost_quality(manifest: Manifest, evaluation: Evaluation) -> Figure:
    """Quality kept over the share that goes weak: the router with its band, the baselines, the mark at 99 %."""
    figure = Figure(figsize=(8.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    curves = evaluation.curves.cost_quality
    weak_share = 1 - np.array(curves.strong_share)
    if curves.low is not None and curves.high is not None:
        axes.fill_between(weak_share, curves.low, curves.high, color=ROUTER, alpha=0.16, linewidth=0)
    dashes = iter(_DASHES * (1 + len(curves.baselines) // len(_DASHES)))
    if curves.router is not None:
        axes.plot(weak_share, curves.router, color=ROUTER, linewidth=2.4, label="this router", zorder=5)
    for name, ratio in curves.baselines.items():
        if ratio is None or name in {"always_weak", "always_strong"}:
            continue  # fixed routes are the two ends of every curve
        colour = ORACLE if name == "oracle" else OTHER
        label = BASELINE_NAMES.get(name, name)
        axes.plot(weak_share, ratio, color=colour, linewidth=1.5, dashes=next(dashes), label=label)
    share = evaluation.share_at_quality.get("0.99")
    if share is not None:
        bottom = axes.get_ylim()[0]
        axes.plot([0, share, share], [0.99, 0.99, bottom], color=MUTED, linewidth=0.9)
        axes.set_ylim(bottom=bottom)
        axes.plot([share], [0.99], "o", color=ROUTER, markersize=7, markeredgecolor=PAPER, zorder=6)
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"Share of requests sent to {manifest.pair.weak}")
    axes.set_ylabel(f"Quality, relative to {manifest.pair.strong}")
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.yaxis.set_major_formatter(lambda ratio, _: f"{100 * ratio:.4g}%")
    if axes.lines:
        axes.legend(loc="lower left")
    return figure


def draw_reliability(evaluation: Evaluation) -> Figure:
    """Match rate over `p_match` in 15 bins of equal mass, before and after calibration, on one scale."""
    curves = evaluation.curves
    panels = [("After calibration", curves.reliability_after, curves.p_match, ROUTER)]
    if curves.reliability_before is not None and curves.p_uncalibrated is not None:
        panels.insert(0, ("Before calibration", curves.reliability_before, curves.p_uncalibrated, OTHER))
    figure = Figure(figsize=(8.2, 4.4), layout=ConstrainedLayoutEngine(wspace=0.06))
    grid = figure.subplots(2, len(panels), squeeze=False, sharex=True, sharey="row", height_ratios=(4, 1))
    lowest = min(min(bin_.low, bin_.p_match) for _, bins, _, _ in panels for bin_ in bins)
    start = min(np.floor(lowest * 10) / 10, 0.9)
    for column, (title, bins, histogram, colour) in enumerate(panels):
        _reliability_panel(grid[0, column], title, bins, colour, start)
        _mass_panel(grid[1, column], histogram, colour)
    grid[0, 0].set_ylabel("Share that matched")
    grid[1, 0].set_ylabel("Requests", color=MUTED)
    return figure


def draw_p_match(manifest: Manifest, evaluation: Evaluation) -> Figure:
    """Histogram of `p_match`, matches and misses stacked, with the default policy's threshold."""
    figure = Figure(figsize=(8.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    found = evaluation.curves.p_match
    edges, n, n_match = np.array(found.edges), np.array(found.n), np.array(found.n_match)
    axes.bar(edges[:-1], n - n_match, np.diff(edges), align="edge", color=MISS, label="worse", linewidth=0)
    label = f"{manifest.pair.weak} matched"
    axes.bar(edges[:-1], n_match, np.diff(edges), n - n_match, align="edge", color=ROUTER, label=label, linewidth=0)
    policy = next((policy for policy in manifest.policies if policy.name == manifest.default_policy), None)
    if policy is not None:
        label = f"threshold of {policy.name}: {policy.threshold:.3g}"
        axes.axvline(policy.threshold, color=INK, linewidth=1.3, dashes=(4, 2), label=label)
    axes.set_xlim(0, 1)
    axes.set_xlabel("p_match")
    axes.set_ylabel("Requests")
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper left")
    return figure


def _reliability_panel(axes: Axes, title: str, bins: Sequence[ReliabilityBin], colour: str, start: float) -> None:
    p_match = [bin_.p_match for bin_ in bins]
    rate = [bin_.match_rate for bin_ in bins]
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, dashes=(4, 3), label="p_match means what it says")
    low, high = [bin_.low for bin_ in bins], [bin_.high for bin_ in bins]
    axes.fill_between(p_match, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(p_match, rate, color=colour, linewidth=1.8, marker="o", markersize=4.5, label="observed, 95 % band")
    axes.set_xlim(start, 1)
    axes.set_ylim(start, 1)
    axes.set_title(title)
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.legend(loc="upper left")


def _mass_panel(axes: Axes, histogram: Histogram, colour: str) -> None:
    edges = np.array(histogram.edges)
    axes.bar(edges[:-1], histogram.n, np.diff(edges), align="edge", color=colour, alpha=0.75, linewidth=0)
    axes.set_xlabel("p_match")
    axes.grid(visible=False, axis="x")
    axes.locator_params(axis="y", nbins=2)


def _png(figure: Figure) -> bytes:
    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return raw.getvalue()


def _svg(figure: Figure, name: str) -> str:
    """SVG for the inside of an HTML page: no prologue, no namespaces, ids of its own, colours as variables."""
    raw = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(raw, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = raw.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<!DOCTYPE.*?>", "", text, flags=re.DOTALL)
    text = (
        re.sub(r'\s(?:xmlns(?::xlink)?|width|height|version)="[^"]*"', "", text.split(">", 1)[0])
        + ">"
        + text.split(">", 1)[1]
    )
    text = text.replace("xlink:href=", "href=")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    text = re.sub(r"; ?font-family: [^;\"]*|font-family: [^;\"]*; ?", "", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    return re.sub(r"\n\s*\n+", "\n", text).strip()
