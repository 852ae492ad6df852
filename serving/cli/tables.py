"""Tables for people: the figures and the policies of a bundle, on a terminal or in a log file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from turnout.serving.bundles.manifest import Manifest
from turnout.serving.bundles.rung_shares import RungShares

FILE_WIDTH = 110
"""Columns when standard output is no terminal; rich would take 80 and cut the names."""


def console() -> Console:
    """Return a console on standard output, wide enough for our tables."""
    return Console(width=None if sys.stdout.isatty() else FILE_WIDTH)


def number(value: float | None) -> str:
    """Return a figure as text; undefined is empty."""
    return "" if value is None else f"{value:.3f}"


def figures_table(
    title: str,
    figures: Mapping[str, float | None],
    intervals: Mapping[str, tuple[float, float] | None],
    baselines: Mapping[str, Mapping[str, float | None]] | None = None,
) -> Table:
    """Return a table of figures with 95 % intervals, and the same of the baselines beside them."""
    others = baselines or {}
    table = Table(title=title, title_justify="left")
    table.add_column("figure", no_wrap=True)
    for name in ("router", "95 % interval", *others):
        table.add_column(name, justify="right", no_wrap=True)
    for name, value in figures.items():
        bounds = intervals.get(name)
        interval = f"{bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else ""
        table.add_row(name, number(value), interval, *(number(other.get(name)) for other in others.values()))
    return table


def policies_table(manifest: Manifest) -> Table:
    """Return the policy table of a bundle, as solved on the policy split."""
    table = Table(title="Policies (measured on the policy split)", title_justify="left")
    table.add_column("policy", no_wrap=True)
    has_costs = any(policy.cost_usd_per_1k is not None for policy in manifest.policies)
    for name in ("threshold", "to weak", "quality kept", "made worse", "bound", *["USD per 1,000"] * has_costs):
        table.add_column(name, justify="right", no_wrap=True)
    for policy in manifest.policies:
        is_default = policy.name == manifest.default_policy
        table.add_row(
            policy.name + (" (default)" if is_default else "") + ("" if policy.is_met else " not met"),
            f"{policy.threshold:.3f}",
            f"{policy.share_weak:.1%}",
            number(policy.quality_kept),
            f"{policy.share_worse:.4f}",
            "" if policy.share_worse_bound is None else f"{policy.share_worse_bound:.4f}",
            *[_usd(policy.cost_usd_per_1k)] * has_costs,
        )
    return table


def shares_table(names: Sequence[str], found: Sequence[RungShares]) -> Table:
    """Return what each policy of a ladder gives each rung, by name, with one look and with two."""
    table = Table(title="Ladder (rows that have every rung)", title_justify="left")
    table.add_column("policy", no_wrap=True)
    for name in ("looks", *names, "wait twice", "made worse", "cost"):
        table.add_column(name, justify="right")
    for one in found:
        table.add_row(
            one.policy + ("" if one.is_met else " not met"),
            str(one.looks),
            *(f"{share:.1%}" for share in one.shares),
            f"{one.waits_twice:.1%}",
            f"{one.worse:.4f}",
            number(one.cost),
        )
    return table


def _usd(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
