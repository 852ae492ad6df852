"""The story for people: a table of means over the sources, one by source, and a plot. No prompt is in any of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from tests.bench.retraining.story import Chapter

STEPS = ("cold start", "retrained 1", "retrained 2")
START = "from the start"
COLUMNS = (
    "both answers of",
    "router",
    "logs",
    "pairs",
    "AUROC",
    "less from the start",
    "ECE above floor",
    "log loss",
    "quality",
    "to weak",
    "promoted (with default limits)",
)
MEASURES = ("auroc", "ece_excess", "log_loss", "quality", "share_weak")


def print_tables(chapters: Sequence[Chapter]) -> None:
    """Print the means over sources at each share, then each source at the last share."""
    print(
        "\n| both answers of | router | logs | pairs | AUROC | less than from the start | ECE above floor | log loss |"
    )
    print("| quality | to weak | promoted |\n| " + "--- | " * 11)
    for both in sorted({one.both for one in chapters}):
        for name in STEPS:
            print(_line(f"{both:.0%}", name, [one for one in chapters if (one.both, one.name) == (both, name)]))
    print(_line("", START, [one for one in chapters if one.name == START]))
    last = max(one.both for one in chapters)
    print("\n| source | logs | pairs | AUROC cold | after 1 | after 2 | from the start | after 2 less that (95 %) |")
    print(f"|{' --- |' * 8}")
    for source in dict.fromkeys(one.source for one in chapters):
        told = {one.name: one for one in chapters if one.source == source and (one.both == last or one.name == START)}
        end = told[STEPS[-1]]
        aurocs = " | ".join(f"{told[name].figures.auroc:.3f}" for name in (*STEPS, START))
        less, low, high = end.auroc_less
        print(f"| {source} | {end.n_logs} | {end.n_pairs} | {aurocs} | {less:+.3f} ({low:+.3f} to {high:+.3f}) |")


def _line(both: str, name: str, told: Sequence[Chapter]) -> str:
    means = {measure: np.mean([getattr(one.figures, measure) for one in told]) for measure in MEASURES}
    less = np.array([one.auroc_less[0] for one in told])
    error = less.std(ddof=1) / np.sqrt(less.size) if less.size > 1 else float("nan")
    logs, pairs = (np.mean([getattr(one, count) for one in told]) for count in ("n_logs", "n_pairs"))
    return (
        f"| {both} | {name} | {logs:.0f} | {pairs:.0f} | {means['auroc']:.3f} | {less.mean():+.3f} ± {error:.3f} | "
        f"{means['ece_excess']:+.3f} | {means['log_loss']:.3f} | {means['quality']:.3f} | {means['share_weak']:.2f} | "
        f"{sum(one.is_promoted for one in told)} ({sum(one.meets_defaults for one in told)}) of {len(told)} |"
    )


def write_plot(chapters: Sequence[Chapter], folder: Path) -> None:
    """Draw the figures over the steps: a thin line a source, a thick one the mean, at the largest share."""
    last = max(one.both for one in chapters)
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, measure, title in zip(
        figure.subplots(1, 4),
        ("auroc", "ece_excess", "quality", "share_weak"),
        ("AUROC", "ECE above its floor", "share of the strong model's quality", "share to the weak model"),
        strict=True,
    ):
        lines = [
            [getattr(one.figures, measure) for name in STEPS for one in chapters if _is(one, source, last, name)]
            for source in dict.fromkeys(one.source for one in chapters)
        ]
        for line in lines:
            axes.plot(STEPS, line, color="0.75", linewidth=1)
        axes.plot(
            STEPS, np.mean(lines, axis=0), color="#0b6e4f", linewidth=2.5, marker="o", label="mean of the sources"
        )
        held = np.mean([getattr(one.figures, measure) for one in chapters if one.name == START])
        axes.axhline(held, color="#a23b25", linestyle="--", linewidth=1.2, label="trained with it from the start")
        axes.set_title(title, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7)
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8, frameon=False
    )
    for suffix in ("png", "svg"):
        figure.savefig(folder / f"story.{suffix}", dpi=150)


def _is(one: Chapter, source: str, both: float, name: str) -> bool:
    return (one.source, one.both, one.name) == (source, both, name)
