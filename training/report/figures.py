"""The report's figures on quality and calibration, each drawn once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter

from turnout.serving.bundles.manifest import Manifest
from turnout.training.evaluation.evaluation import Evaluation, Histogram
from turnout.training.evaluation.figures import ReliabilityBin
from turnout.training.report.style import INK, MISS, MUTED, ORACLE, OTHER, PAPER, ROUTER

BASELINE_NAMES = {
    "random": "random",
    "prompt_length": "prompt length",
    "encoder_lr": "encoder + LR",
    "oracle": "oracle (hindsight)",
}
_DASHES = ((1, 2), (5, 2), (7, 2, 1, 2), (3, 1, 1, 1), (9, 3))


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
        reliability_panel(grid[0, column], title, bins, colour, start)
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
    first = float(edges[np.flatnonzero(n)[0]])
    axes.set_xlim(np.floor(10 * first + 1e-9) / 10, 1)
    axes.set_xlabel("p_match")
    axes.set_ylabel("Requests")
    axes.grid(visible=False, axis="x")
    axes.legend(loc="upper left")
    return figure


def reliability_panel(
    axes: Axes,
    title: str,
    bins: Sequence[ReliabilityBin],
    colour: str,
    start: float,
    *,
    has_legend: bool = True,
) -> None:
    """Draw match rate over `p_match`, both from `start` to 1, with the line on which it means what it says."""
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
    if has_legend:
        axes.legend(loc="upper left")


def _mass_panel(axes: Axes, histogram: Histogram, colour: str) -> None:
    edges = np.array(histogram.edges)
    axes.bar(edges[:-1], histogram.n, np.diff(edges), align="edge", color=colour, alpha=0.75, linewidth=0)
    axes.set_xlabel("p_match")
    axes.grid(visible=False, axis="x")
    axes.locator_params(axis="y", nbins=2)
