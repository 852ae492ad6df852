"""Which bundles answer at one moment: the default, others by name, a canary, a shadow.

A line-up is never changed but replaced as a whole. A request takes it once, at its beginning, and so
sees one set of bundles in every phase, whatever is swapped meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from turnout.serving.bundles.bundle import Bundle, Manifest
from turnout.serving.decision.costs import PairPrices
from turnout.serving.errors import UnknownName
from turnout.serving.service.cache import PredictionCache


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A bundle in service, with the cache of what it answered and today's prices of its models."""

    bundle: Bundle
    cache: PredictionCache = field(default_factory=lambda: PredictionCache(0))
    prices: PairPrices = field(init=False)
    bundle_id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prices", PairPrices.of(self.bundle.manifest.pair))
        object.__setattr__(self, "bundle_id", self.bundle.manifest.bundle_id)

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest


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
