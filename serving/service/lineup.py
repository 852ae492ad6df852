"""Which bundles answer at one moment: the default, others by name, a canary, a shadow.

A line-up is never changed but replaced as a whole. A request takes it once, at its beginning, and so
sees one set of bundles in every phase, whatever is swapped meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from turnout.serving.bundles.bundle import Bundle
from turnout.serving.bundles.ladder import Rung
from turnout.serving.bundles.manifest import Manifest
from turnout.serving.decision.costs import LadderPrices, PairPrices
from turnout.serving.errors import UnknownName
from turnout.serving.service.cache import PredictionCache


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A bundle in service, with the cache of what it answered, its ladder and today's prices of its models.

    Attributes:
        bundle: the bundle.
        cache: of its predictions.
        prices: of its pair, which are the two ends of its ladder.
        ladder: its rungs, the cheapest first.
        rung_prices: of the rungs.
        names: name and model of each rung.
        windows: tokens that each takes, by the price list; infinite where it doesn't say.
        least_window: the least of them.
        is_pair: whether it has no rung between.
        manifest, bundle_id: the bundle's.
    """

    bundle: Bundle
    cache: PredictionCache = field(default_factory=lambda: PredictionCache(0))
    prices: PairPrices = field(init=False)
    ladder: tuple[Rung, ...] = field(init=False)
    rung_prices: LadderPrices = field(init=False)
    names: tuple[tuple[str, str], ...] = field(init=False)
    windows: tuple[float, ...] = field(init=False)
    manifest: Manifest = field(init=False)
    bundle_id: str = field(init=False)
    least_window: float = field(init=False)
    is_pair: bool = field(init=False)

    def __post_init__(self) -> None:
        ladder = self.bundle.manifest.ladder
        prices = LadderPrices.of(ladder)
        made = {
            "prices": PairPrices.of(self.bundle.manifest.pair),
            "ladder": ladder,
            "rung_prices": prices,
            "names": tuple((rung.name, rung.model) for rung in ladder),
            "windows": prices.windows,
            "manifest": self.bundle.manifest,
            "bundle_id": self.bundle.manifest.bundle_id,
            "least_window": min(prices.windows),
            "is_pair": len(ladder) == 2,
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)

    def place_of(self, name: str) -> int | None:
        """Return the place of the rung of that name; None where there is none."""
        return next((place for place, rung in enumerate(self.ladder) if rung.name == name), None)


@dataclass(frozen=True, slots=True)
class Lineup:
    """The bundles in service.

    Attributes:
        served: at least one; the first is the default.
        canary: challenger that answers a share of what the default would; None without one.
        shadow: challenger that scores what the default answered and changes nothing; None without one.
    """

    served: tuple[Served, ...]
    canary: Served | None = None
    shadow: Served | None = None

    @property
    def default(self) -> Served:
        """What answers where nothing names a bundle."""
        return self.served[0]

    @property
    def everyone(self) -> tuple[Served, ...]:
        """All bundles held in memory."""
        return (*self.served, *(one for one in (self.canary, self.shadow) if one is not None))

    def find(self, wanted: str) -> Served:
        """Return the bundle of that `name` or `name/version`; the default for the empty name.

        Raises:
            UnknownName: no such bundle is served; the message lists those that are.
        """
        if not wanted:
            return self.default
        for one in (*self.served, *([self.canary] if self.canary else [])):
            if wanted in (one.manifest.name, one.manifest.bundle_id):
                return one
        known = ", ".join(one.manifest.bundle_id for one in self.served)
        raise UnknownName(f"unknown bundle; this server has: {known}")
