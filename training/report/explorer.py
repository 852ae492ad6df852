"""The threshold explorer: what a reader may choose, computed here and only shown by the page.

Comes in: the threshold table, what two looks do, the policies, the price list. Goes out: `Explorer`, which the template
shows at the default policy and the page's script reads as JSON. The script looks rows up and multiplies a cost; every
other number, as text too, is Python's.
"""

from __future__ import annotations

from datetime import date

import msgspec
import numpy as np

from turnout.serving.bundles.manifest import Manifest
from turnout.serving.bundles.policy import Policy
from turnout.serving.decision.prices import TOKENS_PER_PRICE, Price, load_prices
from turnout.serving.errors import PriceUnknown
from turnout.training.evaluation.evaluation import ThresholdTable
from turnout.training.evaluation.looks import Path, TwoLooks
from turnout.training.offpolicy.savings.machine import Machine
from turnout.training.policy.by_task import AT
from turnout.training.report import words
from turnout.training.report.plot import Curve, Plot, curve_of, plot_of, x_of


class Traffic(msgspec.Struct, frozen=True):
    """What the reader sends in a month: requests, and mean tokens of prompt and answer; and what the router costs."""

    requests: int = 1_000_000
    prompt_tokens: int = 500
    output_tokens: int = 200
    router_usd_per_million: float = round(1e6 * Machine().usd_per_decision, 3)

    @property
    def router_usd(self) -> float:
        """USD a month for the machine that the router runs on."""
        return self.requests / 1e6 * self.router_usd_per_million


class TierPrice(msgspec.Struct, frozen=True):
    """USD per million tokens; `since` is the first day of that price, None where the list has no such model."""

    input: float
    output: float
    since: date | None


class Position(msgspec.Struct, frozen=True):
    """One place of the slider: what a cost and the mark on the plot need as numbers, what is shown as text.

    Attributes:
        at: value of the slider, the share in hundredths of a percent, rising from place to place.
        share_weak: of the requests that the weak model's answer is shown for.
        waits: of those that wait for both models' answers; 0 where nothing is tried.
        x, y: of the mark.
        more: that share as text.
        rule: what two looks do there, in words; empty with one.
    """

    at: int
    share_weak: float
    x: float
    y: float | None
    share: str
    threshold: str
    kept: str
    kept_range: str
    worse: str
    worse_bound: str
    waits: float = 0.0
    more: str = ""
    rule: str = ""


class Jump(msgspec.Struct, frozen=True):
    """A policy, and the place of the slider that is its threshold."""

    policy: str
    position: int


class Second(msgspec.Struct, frozen=True):
    """The same choice for callers that have answers checked; `start` is the position of the default policy."""

    positions: list[Position]
    start: int
    jumps: list[Jump]
    curve: Curve | None


class Explorer(msgspec.Struct, frozen=True):
    """All that the explorer shows; `start` is the position of the default policy, `second` None without two looks."""

    weak: str
    strong: str
    positions: list[Position]
    start: int
    jumps: list[Jump]
    plot: Plot | None
    traffic: Traffic
    weak_price: TierPrice
    strong_price: TierPrice
    per_price: int = TOKENS_PER_PRICE
    machine: Machine = Machine()
    second: Second | None = None

    @property
    def json(self) -> str:
        """JSON that can stand inside a `script` element: no `<` in it, so nothing can close it."""
        return msgspec.json.encode(self).decode().replace("<", "\\u003c")

    def cost(self, position: int) -> float:
        """USD a month at a position, for the traffic and the prices given, the router included."""
        return self.cost_at(self.positions[position])

    def cost_at(self, at: Position) -> float:
        """USD a month at a position of one look or of two."""
        usd = monthly_usd(self.traffic, self.weak_price, self.strong_price, at.share_weak, at.waits)
        return usd + self.traffic.router_usd

    @property
    def cost_all_strong(self) -> float:
        """USD a month without a router."""
        return monthly_usd(self.traffic, self.weak_price, self.strong_price, 0.0)


def explorer(manifest: Manifest, table: ThresholdTable, looks: TwoLooks | None = None) -> Explorer:
    """Return the explorer of a bundle, at its default policy; with both looks where it has them."""
    jumps = [
        Jump(policy.name, _nearest(table, policy.threshold))
        for policy in manifest.policies
        if policy.is_met and policy.delta is not None and AT not in policy.name
    ]
    path = None if looks is None else looks.paths.get("two_looks")
    plot = plot_of(table, path)
    start = next((jump.position for jump in jumps if jump.policy == manifest.default_policy), 0)
    return Explorer(
        weak=manifest.pair.weak,
        strong=manifest.pair.strong,
        positions=_spread([_position(table, plot, row) for row in range(len(table.threshold))]),
        start=start,
        jumps=jumps,
        plot=plot,
        traffic=Traffic(),
        weak_price=_price(manifest.pair.weak),
        strong_price=_price(manifest.pair.strong),
        second=None if path is None else _second(manifest, path, plot),
    )


def monthly_usd(
    traffic: Traffic, weak: TierPrice, strong: TierPrice, share_weak: float, share_both: float = 0.0
) -> float:
    """Return what a month costs in USD when that share goes weak: the models alone, no token cached.

    `share_both` waits for both models: the weak one's answer was discarded, and is paid for.
    """
    at_weak, at_strong = (
        Price("", date.min, price.input, price.output).cost_usd(traffic.prompt_tokens, traffic.output_tokens)
        for price in (weak, strong)
    )
    return traffic.requests * ((share_weak + share_both) * at_weak + (1 - share_weak) * at_strong)


def _position(table: ThresholdTable, plot: Plot | None, row: int) -> Position:
    shares = table.share_weak[row], table.share_worse[row], table.share_worse_bound[row]
    return msgspec.structs.replace(_place(table, plot, row, *shares), threshold=f"{table.threshold[row]:.4f}")


def _point(path: Path, plot: Plot | None, row: int) -> Position:
    return msgspec.structs.replace(
        _place(path, plot, row, path.answered_weak[row], path.worse[row], path.worse_bound[row]),
        waits=path.waits_twice[row],
        more=words.percent(path.waits_twice[row]),
        rule=words.rule_of_three(path.t_strong[row], path.t_weak[row], path.t_accept[row]),
    )


def _place(
    of: ThresholdTable | Path, plot: Plot | None, row: int, weak: float, worse: float, worse_bound: float
) -> Position:
    """Return what one look and two have in common: shares, and the quality kept with its band."""
    quality = None if of.quality is None else of.quality[row]
    has_band = of.quality_low is not None and of.quality_high is not None
    band = (of.quality_low[row], of.quality_high[row]) if has_band else None  # type: ignore[index]
    return Position(
        at=0,
        share_weak=weak,
        x=x_of(weak),
        y=None if plot is None or quality is None else plot.y(quality),
        share=words.percent(weak),
        threshold="",
        kept=words.percent(quality, 2),
        kept_range="" if band is None else words.between(band, as_percent=True, digits=2),
        worse=words.percent(worse, 2),
        worse_bound=words.percent(worse_bound, 2),
    )


def _spread(positions: list[Position]) -> list[Position]:
    """Return the positions with their values of the slider: no two alike, so that each can be reached."""
    found: list[Position] = []
    for position in positions:
        at = max(round(10_000 * position.share_weak), found[-1].at + 1 if found else 0)
        found.append(msgspec.structs.replace(position, at=at))
    return found


def _second(manifest: Manifest, path: Path, plot: Plot | None) -> Second:
    jumps = [
        Jump(policy.name, _nearest_point(path, policy))
        for policy in manifest.policies
        if policy.checked is not None and policy.checked.is_met and AT not in policy.name
    ]
    start = next((jump.position for jump in jumps if jump.policy == manifest.default_policy), 0)
    positions = [_point(path, plot, row) for row in range(len(path.cost))]
    band = path.quality_low, path.quality_high
    curve = None if plot is None else curve_of(path.answered_weak, path.quality, *band, plot)
    return Second(_spread(positions), start, jumps, curve)


def _nearest_point(path: Path, policy: Policy) -> int:
    """Return the point with the policy's own thresholds, else the one that answers nearest to as many."""
    checked = policy.checked
    if checked is None:
        return 0
    wanted = (checked.t_strong, checked.t_weak, checked.t_accept)
    points = list(zip(path.t_strong, path.t_weak, path.t_accept, strict=True))
    if wanted in points:
        return points.index(wanted)
    return int(np.argmin(np.abs(np.array(path.answered_weak) - checked.share_answered_weak)))


def _nearest(table: ThresholdTable, threshold: float) -> int:
    return int(np.argmin(np.abs(np.array(table.threshold) - threshold)))


def _price(model: str) -> TierPrice:
    try:
        found = load_prices().price(model)
    except PriceUnknown:
        return TierPrice(0.0, 0.0, None)
    return TierPrice(found.input, found.output, found.since)


def pair_prices_known(found: Explorer) -> bool:
    """Whether the price list has both models; otherwise the reader types their prices in."""
    return found.weak_price.since is not None and found.strong_price.since is not None
