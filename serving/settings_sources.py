"""Where a server's bundles come from. Imports no model: the supervisor hands it on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from turnout.serving.settings import SettingsRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the bundles come from: each a bundle's folder, or a folder of the registry that holds `CURRENT`.

    Attributes:
        bundles: at least one; the first is the default, requests and rules name the others.
        canary: challenger that answers `canary_share` of what the default would.
        canary_share: share of sessions, or of requests without one, in [0, 1].
        shadow: challenger that scores `shadow_share` of the traffic and changes nothing.
        shadow_share: as `canary_share`.
        cache_items: predictions kept in memory for each bundle, by digest of the prompt; 0 for none.
        trusted_key: PEM file with the Ed25519 public key that must have signed every bundle; None asks for none.
    """

    bundles: tuple[Path, ...]
    canary: Path | None = None
    canary_share: float = 0.05
    shadow: Path | None = None
    shadow_share: float = 1.0
    cache_items: int = 10_000
    trusted_key: Path | None = None

    def __post_init__(self) -> None:
        if not self.bundles:
            raise SettingsRefused("bundle: expected at least one, got none")
        if self.cache_items < 0:
            raise SettingsRefused(f"cache_items: expected 0 or more, got {self.cache_items}")
        for name in ("canary_share", "shadow_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise SettingsRefused(f"{name}: expected a share in [0, 1], got {getattr(self, name)}")

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them, in the order default, others, canary, shadow."""
        return (*self.bundles, *(path for path in (self.canary, self.shadow) if path is not None))
