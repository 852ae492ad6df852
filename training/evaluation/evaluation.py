"""Evaluation: the figures of a router on rows it has not seen, as `evaluation.json` holds them.

Made by `training.evaluation.evaluate`, read by `training.report`. Definitions stand in `training.evaluation.metrics`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from turnout.serving.files import write_whole
from turnout.serving.router.unseen import unseen_among
from turnout.training.evaluation.figures import Metrics, ReliabilityBin
from turnout.training.evaluation.ladder import LadderFigures
from turnout.training.evaluation.looks import TwoLooks


class CostQuality(msgspec.Struct, frozen=True):
    """Mean score over the strong model's at 101 shares to the strong model; None without a strong score.

    Attributes:
        strong_share: 0, 0.01, ..., 1.
        low, high: band of the router; None where there were no bootstraps.
    """

    strong_share: list[float]
    router: list[float] | None
    low: list[float] | None
    high: list[float] | None
    baselines: dict[str, list[float] | None]


class Histogram(msgspec.Struct, frozen=True):
    """Rows, and matches among them, between consecutive edges of `p_match`."""

    edges: list[float]
    n: list[int]
    n_match: list[int]


class Curves(msgspec.Struct, frozen=True):
    """What the report draws."""

    cost_quality: CostQuality
    reliability_before: list[ReliabilityBin] | None
    reliability_after: list[ReliabilityBin]
    p_match: Histogram
    p_uncalibrated: Histogram | None
    brier_reliability: float
    brier_resolution: float
    brier_uncertainty: float


class Slice(msgspec.Struct, frozen=True):
    """The router on the rows of one task, source, language, length, depth or stage; `p_match` is its mean.

    Attributes:
        name: of the slice; empty where the log names none.
        n: rows.
        share_weak: share of them that goes weak under the default policy.
        drop: what that loses against the strong model, as a share of its mean score; below 0 where it gains.
        drop_if_weak: the same if every row of the slice went weak.
        intervals: 95 % over groups, of `match_rate`, `auroc`, `drop` and `drop_if_weak`.
    """

    name: str
    n: int
    match_rate: float
    p_match: float
    auroc: float | None
    ece: float
    ece_floor: float
    share_weak: float | None = None
    drop: float | None = None
    drop_if_weak: float | None = None
    intervals: dict[str, tuple[float, float] | None] = {}


class Slices(msgspec.Struct, frozen=True):
    """Slices, and how many sources `auroc_within_source` leaves out.

    By task, source, language and stage the largest comes first; by length and turns the shortest.
    """

    task: list[Slice]
    source: list[Slice]
    stage: list[Slice]
    n_sources_left_out: int
    language: list[Slice] = []
    length: list[Slice] = []
    turns: list[Slice] = []


class ThresholdTable(msgspec.Struct, frozen=True):
    """What each threshold does on the test part, column by column, from nothing weak to everything.

    Attributes:
        threshold: falling; prompts with `p_match` at or above it go weak.
        share_weak: of all rows.
        quality: mean score over the strong model's; None throughout where that is 0.
        quality_low, quality_high: 95 % over groups; None where there were no bootstraps.
        share_worse: share of all rows with a worse answer than the strong model's.
        share_worse_bound: exact binomial upper bound of it over one row a group, at level 1 - `delta`, for a
            threshold named beforehand.
        delta: level of the bound.
        n_draws: groups, so rows that the bound rests on.
    """

    threshold: list[float]
    share_weak: list[float]
    quality: list[float] | None
    quality_low: list[float] | None
    quality_high: list[float] | None
    share_worse: list[float]
    share_worse_bound: list[float]
    delta: float
    n_draws: int


class LabelNoise(msgspec.Struct, frozen=True):
    """How far the labels can be trusted, as their labellers state it.

    Attributes:
        mean_confidence: that a label is right.
        n_uncertain: rows whose labeller is less than certain.
        auroc_ceiling: AUROC of a router that knew every true outcome, against labels as wrong as stated.
    """

    mean_confidence: float
    n_uncertain: int
    auroc_ceiling: float


class CurvePoint(msgspec.Struct, frozen=True):
    """What a router fitted on so many rows is worth on the test part.

    Attributes:
        rows: rows fitted on.
        figures: by name; None where undefined.
        intervals: 95 %, by the same names.
        excess_loss: mean log loss above that of the whole fit part, in nats, row by row.
        excess_loss_se: its standard error, over groups.
    """

    rows: int
    figures: dict[str, float | None]
    intervals: dict[str, tuple[float, float] | None]
    excess_loss: float
    excess_loss_se: float


class LearningCurve(msgspec.Struct, frozen=True):
    """Points from the smallest size to the whole fit part.

    `enough_rows` is the smallest size whose log loss is above that of the whole fit part by no more than one
    standard error of the paired difference; None when none is: then more rows are likely to help.
    """

    points: list[CurvePoint]
    enough_rows: int | None


class Distribution(msgspec.Struct, frozen=True):
    """How one number is spread over the test part: what live traffic is to be compared with.

    Attributes:
        name: `p_match`, or a key of `turnout.serving.router.features.STRUCTURAL`.
        quantiles: at 0.05, 0.25, 0.5, 0.75 and 0.95.
        edges: (b + 1,) ascending, of bins of equal width from the 1 % to the 99 % quantile; one value has one bin.
        n: (b,) rows between the edges, those beyond in the outermost bins.
    """

    name: str
    mean: float
    sd: float
    quantiles: list[float]
    edges: list[float]
    n: list[int]


class Evaluation(Metrics, frozen=True, kw_only=True):
    """The content of `evaluation.json`; intervals are keyed as in `flat`. What older files lack has a default.

    `ladder` is of more than two models, whose two ends the other figures are of; unset for a pair. `bundle` is the
    name/version that was measured on rows of others' choice; unset for the figures of a training.
    """

    n: int
    n_seen_in_training: int
    match_rate: float
    intervals: dict[str, tuple[float, float] | None]
    baselines: dict[str, Metrics]
    curves: Curves
    slices: Slices
    thresholds: ThresholdTable | None = None
    label_noise: LabelNoise | None = None
    drift: list[Distribution] = msgspec.field(default_factory=list)
    drift_by_task: dict[str, Distribution] = msgspec.field(default_factory=dict)
    learning_curve: LearningCurve | None = None
    share_out_of_distribution: float = 0.0
    two_looks: TwoLooks | None = None
    ladder: LadderFigures | msgspec.UnsetType = msgspec.UNSET
    bundle: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def unseen(self) -> tuple[str, ...]:
        """What no row had, of `turnout.serving.router.unseen`: a bundle that is measured so calls it unlike."""
        return unseen_among({one.name: tuple(one.edges) for one in self.drift})


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write `evaluation` as JSON; a reader sees the old file or the whole new one, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, msgspec.json.format(msgspec.json.encode(evaluation), indent=2) + b"\n")
