"""The gate: whether a challenger may take the champion's place, from what both said of the same rows.

Comes in: rows that neither learned from, and both models' answers to them. Goes out: `Check`s, all of which must be
met. A pure function: no model, no file, no clock; `turnout.training.retrain.trial` says how often it errs.

Differences are challenger less champion on the same rows; intervals draw groups, the same for both. Rows weigh
1 / pair propensity, so that the figures speak of the traffic and not of what was explored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from turnout.serving.bundles.policy import Policy
from turnout.serving.bundles.verdict import Check
from turnout.training.arrays import Floats, Ints
from turnout.training.evaluation import bootstrap, metrics
from turnout.training.evaluation.metrics import Ranking

N_BOOTSTRAPS = 1000
QUALITY = 0.01
"""Fall of the mean score that is tolerated where neither the operator nor the policy says."""

CHANCE = 0.025
"""Probability of a fall by chance, over all tasks and languages together (Bonferroni): each at this level would refuse
a third of the sound challengers where there are fifteen."""

MIN_SLICE_ROWS = 50
"""A task with fewer rows moves by 0.02 when one answer does: no fall could be told from chance."""


@dataclass(frozen=True, slots=True)
class GateLimits:
    """How much worse a challenger may be shown, or not be excluded, to be.

    Attributes:
        log_loss: nats; its mean must not be above the champion's, and the interval's upper end not by more than this.
        quality: mean score at the served policy, which must not fall by more than this. None for what the policy
            allows: a champion that sends nothing weak has all the quality there is, and none of the savings that the
            policy is for. It is the mean that is held against it: two routers that keep the same promise send
            different requests weak, and an interval wide enough for that refuses half of the better ones at 2,000 rows.
        task: mean score of one task or language; a fall beyond it that is more than chance is refused.
        by_task: the same for the tasks and languages it names.
        task_log_loss: nats; a rise of one task or language beyond it that is more than chance is refused.
        ece_excess: calibration error above what a perfect router stays below in 97.5 % of such tests; met, too, where
            the champion's is no smaller.
        latency_ms: of 95 % of the decisions, one at a time.
        parity: largest difference of `p_match` between graph and Python path.
    """

    log_loss: float = 0.01
    quality: float | None = None
    task: float = 0.05
    by_task: Mapping[str, float] = field(default_factory=dict)
    task_log_loss: float = 0.05
    ece_excess: float = 0.01
    latency_ms: float = 25.0
    parity: float = 1e-5

    def at(self, policy: Policy) -> GateLimits:
        """Return these limits, with what a policy allows where none is set for the quality."""
        allowed = {"max_worse": policy.target, "min_quality": 1.0 - policy.target}.get(policy.kind, QUALITY)
        return self if self.quality is not None else replace(self, quality=allowed)


@dataclass(frozen=True, slots=True)
class GateRows:
    """Rows to compare on; arrays are (n,).

    Attributes:
        match: 0 or 1.
        strong_score, weak_score: 0 to 1.
        group: rows with the same number are drawn together.
        weight: above 0; 1 / pair propensity.
        slices: names of the rows' slices, (n,) each, by what they slice: `task`, `language`.
    """

    match: Ints
    strong_score: Floats
    weak_score: Floats
    group: Ints
    weight: Floats
    slices: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServedAnswers:
    """What one model says of the rows at the served policy: (n,) `p_match` and whether the row goes weak.

    `score`, (n,) in [0, 1], is what its policy makes of the rows where more than two models may answer; None of a pair.
    """

    p_match: Floats
    goes_weak: NDArray[np.bool_]
    score: Floats | None = None


def compare(
    rows: GateRows, champion: ServedAnswers, challenger: ServedAnswers, limits: GateLimits, *, seed: int = 0
) -> list[Check]:
    """Return log loss, quality, the worst slice of either, and calibration.

    Args:
        rows: at least one.
        champion: its answers to them.
        challenger: likewise.
        limits: what is tolerated.
        seed: of the bootstraps and of the calibration error's floor.
    """
    losses = _losses(rows, champion), _losses(rows, challenger)
    scores = _scores(rows, champion), _scores(rows, challenger)
    slices = _slices(rows)
    differences = [losses[1] - losses[0], scores[1] - scores[0]]
    masks = [np.ones(rows.match.size), *slices.values()]
    drawn = _Drawn.of(rows, differences, masks, seed)
    loss, quality = drawn.estimate(0, 0), drawn.estimate(1, 0)
    may_fall = QUALITY if limits.quality is None else limits.quality
    return [
        Check(
            name="log loss",
            is_met=loss.point <= 0.0 and loss.high <= limits.log_loss,
            figure=loss.point,
            limit=limits.log_loss,
            champion=_mean(losses[0], rows),
            challenger=_mean(losses[1], rows),
            interval=(loss.low, loss.high),
        ),
        Check(
            name="quality at the policy",
            is_met=quality.point >= -may_fall,
            figure=quality.point,
            limit=-may_fall,
            champion=_mean(scores[0], rows),
            challenger=_mean(scores[1], rows),
            interval=(quality.low, quality.high),
        ),
        *_slice_checks(list(slices), drawn, limits),
        _calibration(rows, champion, challenger, limits, seed),
    ]


@dataclass(frozen=True, slots=True)
class _Estimate:
    point: float
    low: float
    high: float
    error: float


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Weighted means of each difference over each mask: the rows' own, and under every draw of groups."""

    points: Floats
    draws: Floats

    @classmethod
    def of(cls, rows: GateRows, differences: Sequence[Floats], masks: Sequence[Floats], seed: int) -> _Drawn:
        weighted = [rows.weight * mask for mask in masks]
        columns = np.stack([*weighted, *(one * mask for one in differences for mask in weighted)], axis=1)
        names, codes = np.unique(rows.group, return_inverse=True)
        by_group = np.zeros((names.size, columns.shape[1]))
        np.add.at(by_group, codes, columns)  # a draw is then a product over groups, and not over rows
        shape = (len(differences), len(masks))
        draws = [
            _ratios(one @ by_group, shape) for one in bootstrap.group_draws(np.arange(names.size), seed, N_BOOTSTRAPS)
        ]
        return cls(_ratios(by_group.sum(axis=0), shape), np.array(draws).reshape(-1, *shape))

    def estimate(self, difference: int, mask: int) -> _Estimate:
        """Return one of them with its interval; a slice that some draws miss has that of the others."""
        drawn = self.draws[:, difference, mask]
        low, high = np.nanquantile(drawn, bootstrap.TAILS) if drawn.size else (-np.inf, np.inf)
        error = float(np.nanstd(drawn)) if drawn.size else np.inf
        return _Estimate(float(self.points[difference, mask]), float(low), float(high), error)


def _ratios(sums: Floats, shape: tuple[int, int]) -> Floats:
    mass, rest = sums[: shape[1]], sums[shape[1] :].reshape(shape)
    return np.asarray(np.divide(rest, mass, out=np.full(shape, np.nan), where=mass > 0), dtype=np.float64)


def _slice_checks(names: Sequence[tuple[str, str]], drawn: _Drawn, limits: GateLimits) -> list[Check]:
    """Return the slice whose quality falls furthest beyond its bound, and the same of log loss."""
    checks = []
    for title, difference, sign in (("quality of each task", 1, 1.0), ("log loss of each task", 0, -1.0)):
        found = []
        for number, (kind, name) in enumerate(names, start=1):
            one = drawn.estimate(difference, number)
            bound = limits.by_task.get(name, limits.task) if difference else limits.task_log_loss
            gain = sign * one.point
            is_chance = gain + one.error * norm.isf(CHANCE / len(names)) >= 0.0
            found.append(
                Check(
                    name=title,
                    is_met=gain >= -bound or bool(is_chance),
                    figure=one.point,
                    limit=-sign * bound,
                    interval=(one.low, one.high),
                    where=f"{kind} {name}",
                )
            )
        if found:
            checks.append(min(found, key=lambda check: (check.is_met, sign * ((check.figure or 0.0) - check.limit))))
    return checks


def _calibration(
    rows: GateRows, champion: ServedAnswers, challenger: ServedAnswers, limits: GateLimits, seed: int
) -> Check:
    before, after = (_ece_excess(rows, answers.p_match, seed) for answers in (champion, challenger))
    limit = max(limits.ece_excess, before)
    return Check(
        name="calibration error above chance",
        is_met=after <= limit,
        figure=after,
        limit=limit,
        champion=before,
        challenger=after,
    )


def _ece_excess(rows: GateRows, p_match: Floats, seed: int) -> float:
    error = metrics.ece(Ranking.of(p_match), p_match, rows.match.astype(np.float64), rows.weight)
    by_chance = metrics.ece_by_chance(p_match, seed, weights=rows.weight)
    return error - float(np.quantile(by_chance, bootstrap.TAILS[1]))


def _slices(rows: GateRows) -> dict[tuple[str, str], Floats]:
    found: dict[tuple[str, str], Floats] = {}
    for kind, names in rows.slices.items():
        column = np.asarray(names, dtype=np.str_)
        values, counts = np.unique(column, return_counts=True)
        large = values[(counts >= MIN_SLICE_ROWS) & (counts < column.size) & (values != "")]
        found |= {(kind, str(name)): (column == name).astype(np.float64) for name in large}
    return found


def _losses(rows: GateRows, answers: ServedAnswers) -> Floats:
    p_true = np.where(rows.match > 0, answers.p_match, 1.0 - answers.p_match)
    return np.asarray(-np.log(np.maximum(p_true, metrics.LOG_LOSS_CLIP)), dtype=np.float64)


def _scores(rows: GateRows, answers: ServedAnswers) -> Floats:
    return np.where(answers.goes_weak, rows.weak_score, rows.strong_score) if answers.score is None else answers.score


def _mean(values: Floats, rows: GateRows) -> float:
    return float(np.average(values, weights=rows.weight))
