"""The table as Markdown: a line a router, intervals in brackets, percentages of the requests."""

from __future__ import annotations

from collections.abc import Sequence

from turnout.training.assess.frontier import FrontierPoint

PUBLISHED = {
    "routellm-mmlu": "| RouteLLM, best published (other data, not comparable) | | | 0.603 | 35 % / | | | | | |",
    "routellm-gsm8k": "| RouteLLM, best published (other data, not comparable) | | | 0.62 | | | | | | |",
}
"""RouteLLM's paper, quoted second-hand: its routers learned from preferences and were applied to these rows."""

HEADER = (
    "| router | AUROC | within source | APGR | CPT 50 % / 80 % | to the weak model at 99 % / 98 % quality "
    "| ECE (floor) | Brier | our ranking less it: APGR; AUROC | as served less it: APGR |"
)


def markdown(title: str, source: str | None, result: dict) -> str:
    """Return one table with its heading."""
    lines = [f"### {title}: {result['n']} rows, seed {result['seed']}", "", HEADER, "| --- " * 10 + "|"]
    lines += [_line(name, found) for name, found in result["routers"].items()]
    if source in PUBLISHED:
        lines.append(PUBLISHED[source])
    if result["left_out"]:
        lines += ["", f"Left out: {'; '.join(result['left_out'])}."]
    return "\n".join(lines) + "\n"


def frontier_markdown(points: Sequence[FrontierPoint]) -> str:
    """Return the frontier as a table; a star marks what no other union beats in both time and log loss."""
    head = "| parts | µs a prompt, median (quartiles) | APGR | AUROC | log loss above the best |"
    lines = [head, "| --- " * 5 + "|"]
    for one in points:
        low, high = one.us_quartiles
        cells = [
            one.parts + " *" * one.is_on_frontier,
            f"{one.us:.0f} ({low:.0f} to {high:.0f})",
            _number(one.apgr),
            _number(one.auroc),
            f"{one.excess_loss:.4f} ± {one.excess_loss_se:.4f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _less(found: dict | None, *keys: str) -> str:
    return "" if found is None else "; ".join(_signed(found[key]["interval"]) for key in keys)


def _line(name: str, found: dict) -> str:
    figures, intervals = found["figures"], found["intervals"]
    cells = [
        name,
        _with_interval(figures["auroc"], intervals["auroc"]),
        _number(figures["auroc_within_source"]),
        _with_interval(figures["apgr"], intervals["apgr"]),
        _shares(figures["cpt50"], figures["cpt80"]),
        _shares(figures["share_at_0.99"], figures["share_at_0.98"]),
        f"{figures['ece']:.3f} ({figures['ece_floor']:.3f})" if "ece" in figures else "",
        _number(figures.get("brier")),
        _less(found.get("ranking_less_it"), "apgr", "auroc"),
        _less(found.get("served_less_it"), "apgr"),
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    return _number(value) + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _signed(interval: tuple[float, float] | None) -> str:
    return f"{interval[0]:+.3f} to {interval[1]:+.3f}" if interval else ""


def _shares(first: float | None, second: float | None) -> str:
    return " / ".join("" if value is None else f"{100 * value:.0f} %" for value in (first, second))
