"""The second look on the page: its tables and figures.

Comes in: `TwoLooks` of an evaluation. Goes out: rows of text for the template, and figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter

from turnout.serving.bundles.manifest import Pair
from turnout.training.evaluation.looks import Landing, LookOutcome, Path, SignalKind, TwoLooks
from turnout.training.report import words
from turnout.training.report.figures import reliability_panel
from turnout.training.report.style import MUTED, OTHER, PAPER, ROUTER, SECOND

WAYS = {"one_look": ("one look", ROUTER), "two_looks": ("two looks", SECOND), "always_try": ("always try", OTHER)}
LATENCY_NAMES = {
    "all_strong": "{strong} alone",
    "one_look": "One look",
    "two_looks": "Two looks",
    "always_try": "Every request tried",
}
KIND_NAMES = {
    "none": "Answers without a signal",
    "any": "Answers with any signal",
    "mean_logprob": "Log-probabilities",
    "self_check": "Self-check",
    "both": "Both signals",
}
PART_COLOURS = {"prompt": ROUTER, "answer": OTHER, "signals": SECOND}
_MARKS = {"one_look": "s", "two_looks": "o", "always_try": "^"}


@dataclass(frozen=True, slots=True)
class LandingRow:
    """One promise as text; a dash where a way of deciding does not keep it."""

    policy: str
    answered_one: str
    answered_two: str
    answered_range: str
    cost_one: str
    cost_two: str
    cost_range: str
    cost_try: str
    waits_two: str
    waits_try: str
    worse: str
    worse_of_weak: str
    quality: str
    quality_range: str


def looks_context(looks: TwoLooks | None, pair: Pair) -> Mapping[str, Any]:
    """Return what the template of the second look needs beside the evaluation."""
    kinds = [] if looks is None else shown_kinds(looks)
    landings = [] if looks is None else looks.landings
    return {
        "landing_rows": [_row(landing) for landing in landings],
        "has_always_try": any(landing.always_try is not None for landing in landings),
        "latency_names": {name: title.format(strong=pair.strong) for name, title in LATENCY_NAMES.items()},
        "kind_names": KIND_NAMES,
        "shown_kinds": kinds,
        "parts_known": any(kind.rests_on for kind in kinds),
    }


def shown_kinds(looks: TwoLooks) -> list[SignalKind]:
    """Return the kinds; "any" where it does not only repeat the one kind that there is."""
    single = [kind for kind in looks.kinds if kind.name not in {"any", "none"}]
    return [kind for kind in looks.kinds if kind.name != "any" or len(single) != 1]


def draw_two_looks(looks: TwoLooks, pair: Pair) -> Figure:
    """Quality over cost: one look, two looks with their band, always try, and where the promises land."""
    figure = Figure(figsize=(8.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for name, (title, colour) in WAYS.items():
        path = looks.paths.get(name)
        if path is None or path.quality is None:
            continue
        _curve(axes, path, title, colour, is_band=name == "two_looks", is_dashed=name == "always_try")
        landed = [getattr(landing, name) for landing in looks.landings]
        points = [one for one in landed if one is not None and one.quality is not None]
        cost, quality = [one.cost for one in points], [one.quality for one in points]
        axes.plot(cost, quality, _MARKS[name], color=colour, markersize=6, markeredgecolor=PAPER, zorder=6)
    axes.axhline(0.99, color=MUTED, linewidth=0.9, dashes=(2, 3))
    axes.annotate(
        "99 % of the quality",
        (0.005, 0.99),
        xytext=(0, -3),
        textcoords="offset points",
        color=MUTED,
        fontsize=9,
        va="top",
        ha="left",
    )
    axes.set_xlim(0, 1.02)
    axes.set_xlabel(f"Cost, where sending everything to {pair.strong} is 100 %")
    axes.set_ylabel(f"Quality, relative to {pair.strong}")
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.yaxis.set_major_formatter(lambda ratio, _: f"{100 * ratio:.4g}%")
    axes.legend(loc="lower right")
    return figure


def _curve(axes: Any, path: Path, title: str, colour: str, *, is_band: bool, is_dashed: bool) -> None:
    dashes = {"dashes": (5, 2)} if is_dashed else {}
    axes.plot(path.cost, path.quality, color=colour, linewidth=2.2, label=title, zorder=4 if is_dashed else 5, **dashes)
    if is_band and path.quality_low is not None and path.quality_high is not None:
        axes.fill_between(path.cost, path.quality_low, path.quality_high, color=colour, alpha=0.16, linewidth=0)


def draw_second_reliability(looks: TwoLooks) -> Figure:
    """Match rate over p_match of the second look, a panel for each kind of signal, on one scale."""
    kinds = _single(looks)
    figure = Figure(figsize=(8.2, 3.4), layout=ConstrainedLayoutEngine(wspace=0.04))
    panels = figure.subplots(1, max(1, len(kinds)), squeeze=False, sharex=True, sharey=True)[0]
    lowest = min((min(one.low, one.p_match) for kind in kinds for one in kind.reliability), default=0.5)
    start = min(np.floor(lowest * 10) / 10, 0.9)
    for axes, kind in zip(panels, kinds, strict=False):
        title = f"{_short(kind)} ({words.count(kind.n)})"
        reliability_panel(axes, title, kind.reliability, SECOND, start, has_legend=False)
        axes.set_xlabel("p_match of the second look")
        axes.locator_params(axis="x", nbins=4)
        axes.margins(0)
    panels[0].set_ylabel("Share that matched")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def draw_rests_on(looks: TwoLooks) -> Figure | None:
    """Bars of what prompt, answer and signals make of the spread; None where that is unknown."""
    kinds = [kind for kind in _single(looks) if kind.rests_on][::-1]
    if not kinds:
        return None
    figure = Figure(figsize=(8.2, 0.9 + 0.48 * len(kinds)), layout="constrained")
    axes = figure.add_subplot()
    left = np.zeros(len(kinds))
    for part, colour in PART_COLOURS.items():
        share = np.array([max(0.0, kind.rests_on[part]) for kind in kinds])
        axes.barh(range(len(kinds)), share, left=left, height=0.62, color=colour, label=part, linewidth=0)
        for place, (begin, width) in enumerate(zip(left, share, strict=True)):
            if width >= 0.08:
                text = f"{100 * width:.0f} %"
                axes.text(begin + width / 2, place, text, color=PAPER, ha="center", va="center", fontsize=9)
        left = left + share
    axes.set_yticks(range(len(kinds)), [_short(kind) for kind in kinds])
    axes.set_xlim(0, max(1.0, float(left.max())))
    axes.set_xlabel("Share of the spread of the log-odds")
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.grid(visible=False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return figure


def _single(looks: TwoLooks) -> list[SignalKind]:
    """Return the kinds that are drawn: each alone, or all together where each has too few rows."""
    return [kind for kind in shown_kinds(looks) if kind.name != "any"] or shown_kinds(looks)


def _short(kind: SignalKind) -> str:
    return KIND_NAMES[kind.name].removeprefix("Answers ").capitalize()


def _row(landing: Landing) -> LandingRow:
    one, two, tried = landing.one_look, landing.two_looks, landing.always_try

    def share(found: LookOutcome | None, name: str, digits: int = 1) -> str:
        return words.NONE if found is None else words.percent(getattr(found, name), digits)

    def interval(name: str, digits: int = 1) -> str:
        bounds = None if two is None else two.intervals.get(name)
        return "" if bounds is None else words.between(bounds, as_percent=True, digits=digits)

    of_weak = "" if two is None or two.worse_of_weak is None else f"{words.percent(two.worse_of_weak, 1)} of weak"
    return LandingRow(
        landing.policy,
        share(one, "answered_weak"),
        share(two, "answered_weak"),
        interval("answered_weak"),
        share(one, "cost"),
        share(two, "cost"),
        interval("cost"),
        share(tried, "cost"),
        share(two, "waits_twice"),
        share(tried, "waits_twice"),
        share(two, "worse", 2),
        of_weak,
        share(two, "quality", 2),
        interval("quality", 2),
    )
