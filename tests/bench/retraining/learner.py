"""Routers of the story: learned, asked and measured on the Python path, which the exported graph matches to 1e-5."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.bench.retraining.rows import SETTINGS, RealRows
from tests.training.crossfitted import fit_calibrated
from turnout.serving.bundles.manifest import Pair
from turnout.serving.bundles.policy import Policy
from turnout.serving.decision.decision import model_decision
from turnout.serving.decision.routes import Route
from turnout.serving.router.model import Prediction, Stage
from turnout.training.arrays import Floats, Ints
from turnout.training.evaluation import metrics
from turnout.training.evaluation.metrics import Ranking
from turnout.training.fit.router import FittedRouter
from turnout.training.policy.policy import PolicyRows, solve_policies
from turnout.training.retrain.gate import ServedAnswers

POLICY = "max_worse=0.05"
"""On some 500 policy rows the default 1 % can promise next to nothing."""


@dataclass(frozen=True)
class Learned:
    """A calibrated router and the policy at which it is served."""

    router: FittedRouter
    policy: Policy

    def answers(self, real: RealRows, rows: Ints) -> ServedAnswers:
        """Return what it decides on (m,) rows, with the decision function of the server."""
        table = real.table.take(rows)
        said = self.router.cascade(self.router.log_odds(table), self.policy.threshold)
        is_out = self.router.is_out_of_distribution(table)
        routes = [
            model_decision(
                Pair(), self.policy, Prediction(float(p), Stage.FULL if full else Stage.FAST, bool(out))
            ).route
            for p, full, out in zip(said.p_match, said.is_full, is_out, strict=True)
        ]
        return ServedAnswers(said.p_match, np.array([route is Route.WEAK for route in routes]))


@dataclass(frozen=True)
class Figures:
    """What a router is worth on rows that it has not seen; quality is over the strong model's mean score."""

    auroc: float
    ece_excess: float
    log_loss: float
    quality: float
    share_weak: float


def learn_router(real: RealRows, fit: Ints, policy: Ints, weight: Floats, seed: int) -> Learned:
    """Fit and calibrate on some rows, solve the policies on others; `weight` (n,) is of all rows."""
    data = real.data
    router = fit_calibrated(
        real.table.take(fit),
        real.outcome[fit],
        data.match[fit],
        data.groups.group[fit],
        SETTINGS,
        weight=weight[fit],
    )
    table = real.table.take(policy)
    solved = solve_policies(
        router,
        PolicyRows(
            heads=router.log_odds(table),
            match=data.match[policy],
            strong_score=data.strong_score[policy],
            weak_score=data.weak_score[policy],
            group=data.groups.group[policy],
            is_out_of_distribution=router.is_out_of_distribution(table),
        ),
        seed,
    )
    return Learned(router, next(one for one in solved if one.name == POLICY))


def figures_of(real: RealRows, rows: Ints, said: ServedAnswers) -> Figures:
    """Return the figures of answers to (m,) rows."""
    match, ranking = real.data.match[rows].astype(np.float64), Ranking.of(said.p_match)
    strong = real.data.strong_score[rows]
    routed = np.where(said.goes_weak, real.data.weak_score[rows], strong)
    return Figures(
        auroc=metrics.auroc(ranking, match) or float("nan"),
        ece_excess=metrics.ece(ranking, said.p_match, match) - metrics.ece_floor(said.p_match),
        log_loss=metrics.log_loss(said.p_match, match),
        quality=float(routed.mean() / strong.mean()),
        share_weak=float(said.goes_weak.mean()),
    )
