"""The manifest of a bundle: what `manifest.json` says, as plain values, and what follows from them.

Imports nothing of inference.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from turnout.serving.bundles.ladder import Rung, rung_of
from turnout.serving.bundles.policy import NEVER, Policy
from turnout.serving.bundles.risk_path import QUALITY, RiskPath, level_of
from turnout.serving.bundles.second_look import SecondLook
from turnout.serving.bundles.verdict import GateVerdict
from turnout.serving.errors import UnknownName
from turnout.serving.router.exit_band import ExitBand
from turnout.serving.router.ties import tenant_digest

FORMAT_VERSION = 4
"""2: the graph may say `is_out_of_distribution`, and the policies count on it; a reader of format 1 would route such
requests weak, and break their promise. 3: the manifest may name `harness_rules`; a reader of format 2 would feed the
graph text that its training left out. 4: the bundle may hold a second look (`checker.onnx`), and its policies
thresholds for it; a reader of format 3 would answer, but leave out what was promised for two looks."""


LADDER_FORMAT_VERSION = 5
"""Of a bundle with rungs between; a reader of format 4 would send all that they answer to the top. Pairs stay at 4."""


MANIFEST = "manifest.json"


MANIFEST_DIGEST = "manifest.sha256"


MANIFEST_SIGNATURE = "manifest.sig"


class FileDigest(msgspec.Struct, frozen=True):
    """Size in bytes and SHA-256 (hex) of one file of the bundle."""

    size: int
    sha256: str


class Pair(msgspec.Struct, frozen=True):
    """The names of the two models, as they are to be put into the `model` field of a request."""

    strong: str = "gpt-4o"
    weak: str = "gpt-4o-mini"


class Encoder(msgspec.Struct, frozen=True):
    """The encoder inside the graph: its name, the SHA-256 of its own ONNX file, and what it reads."""

    name: str
    sha256: str
    max_tokens: int
    dim: int


class Training(msgspec.Struct, frozen=True):
    """What the bundle was trained on, without any of it.

    Attributes:
        note: the operator's, for the card: intended use, origin and licences of the logs; Markdown.
        tenants: labelled rows of each tenant that the logs name, by `tenant_digest`; no name stands in a bundle.
    """

    data_sha256: str
    rows: dict[str, int]
    groups: dict[str, int]
    group_salt: str
    seed: int
    match_rate: float
    labellers: dict[str, int]
    settings: dict[str, float | int | str]
    libraries: dict[str, str]
    note: str = ""
    tenants: dict[str, int] = {}

    def rows_of_tenant(self, tenant: str) -> int:
        """Return how many labelled rows it had; 0 for one that the logs do not name."""
        return self.tenants.get(tenant_digest(tenant, self.group_salt), 0)


class OutOfDistribution(msgspec.Struct, frozen=True):
    """How the graph tells prompts unlike its training data: by the share of their n-grams that are rare there.

    Attributes:
        rare_below: an n-gram is rare when fewer rows of those learned from hold it.
        limit: largest share, in [0, 1], of a prompt's distinct n-grams that may be rare.
        share_calibrate: share beyond the limit of the rows that set it.
        share_test: share of the rows that the figures are of.
    """

    rare_below: int
    limit: float
    share_calibrate: float
    share_test: float


class Manifest(msgspec.Struct, frozen=True):
    """What `manifest.json` holds; unknown fields of later formats are ignored.

    Attributes:
        exit_band: the widest half-width of the exit band, in calibrated log-odds.
        exit_band_by_threshold: the band as it is; None where it is as wide at every threshold.
        harness_rules: version of the rules by which prompts lose their harness text (`turnout.serving.router.harness`).
        second_look: of the checker; None where there is none.
        default_reason: why the default policy is that one, for people; empty where nobody said.
        margin: by how much the weak score could fall below the strong one and still match; None in bundles of before,
            where it stands among the settings: read `match_margin`.
        risk: what any level of `max_worse` is solved from; None where only the table holds.
        rungs: of a ladder of more than two, the cheapest first; `pair` names its two ends. Unset for a pair.
    """

    format_version: int
    feature_schema: int
    name: str
    version: str
    created: str
    pair: Pair
    encoder: Encoder
    calibrator: str
    exit_band: float
    golden_tolerance: float
    default_policy: str
    policies: list[Policy]
    metrics: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]
    training: Training
    files: dict[str, FileDigest]
    synthetic: bool = False
    parent: str | None = None
    out_of_distribution: OutOfDistribution | None = None
    exit_band_by_threshold: ExitBand | None = None
    verdict: GateVerdict | None = None
    harness_rules: int = 0
    second_look: SecondLook | None = None
    default_reason: str = ""
    margin: float | None = None
    risk: RiskPath | None = None
    rungs: list[Rung] | msgspec.UnsetType = msgspec.UNSET

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """The rungs, the cheapest first; of a pair its two models."""
        return (rung_of(self.pair.weak), rung_of(self.pair.strong)) if self.rungs is UNSET else tuple(self.rungs)

    @property
    def match_margin(self) -> float:
        """By how much the weak score could fall below the strong one and still match, as the bundle was trained."""
        return float(self.training.settings.get("margin", 0.0)) if self.margin is None else self.margin

    @property
    def bundle_id(self) -> str:
        """`name/version`: what every reply carries."""
        return f"{self.name}/{self.version}"

    def policy(self, name: str) -> Policy:
        """Return the policy of that name, the default one for the empty name; any `max_worse` level is solved.

        `quality=0.98` is another name of `max_worse=0.02`, and what is returned has the latter.

        Raises:
            UnknownName: the bundle has no such policy; the message lists those it has.
        """
        wanted = name or self.default_policy
        for policy in self.policies:
            if policy.name == wanted:
                return policy
        level = level_of(wanted)
        if level is not None and wanted.startswith(QUALITY):
            return self.policy(f"max_worse={level:g}")
        if self.risk is not None and level is not None:
            return level_policy(self.risk, level)
        known = ", ".join(policy.name for policy in self.policies)
        anything = "" if self.risk is None else ", and max_worse at any multiple of 0.0005 up to 0.5, or quality"
        raise UnknownName(f"unknown policy; bundle {self.bundle_id} has: {known}{anything}")


def level_policy(path: RiskPath, level: float) -> Policy:
    """Return `max_worse` at a level, solved from the path; everything goes strong where it is not met."""
    place = path.place(level)
    return Policy(
        name=f"max_worse={level:g}",
        kind="max_worse",
        target=level,
        threshold=1.0 if place is None else path.thresholds[place],
        is_met=place is not None,
        share_weak=0.0 if place is None else path.share_weak[place],
        quality_kept=None,
        share_worse=0.0 if place is None else path.share_worse[place],
        share_worse_bound=None if place is None else level,
        delta=path.delta,
        t_rungs=UNSET if path.t_rungs is UNSET else rungs_at(path.t_rungs, place),
    )


def rungs_at(t_rungs: Sequence[tuple[float, ...]], place: int | None) -> tuple[float, ...]:
    """Return what the rungs between need at one place of a path of risks; none is ever allowed at no place."""
    return (NEVER,) * len(t_rungs[0]) if place is None else t_rungs[place]


class Golden(msgspec.Struct, frozen=True):
    """A prompt of the project's own and what the model must say of it: `p_match` of fast and full, in distribution.

    `p_rungs` is of a ladder: the p of each rung between.
    """

    prompt: str
    p_match: float
    p_match_full: float
    is_out_of_distribution: bool = False
    p_rungs: tuple[float, ...] | msgspec.UnsetType = UNSET


GOLDEN_THRESHOLD = 0.5
"""Threshold at which the golden `p_match` was written; with the exit band it fixes the stage."""
