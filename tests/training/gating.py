"""Rows and answers for the gate: a population whose true log losses are known, and tests drawn from it.

The truth is the population itself: what a model loses on all of its rows is what it loses, and a test is a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit

from turnout.training.arrays import Floats, Ints
from turnout.training.evaluation.metrics import log_loss
from turnout.training.retrain.gate import GateLimits, GateRows, ServedAnswers, compare

DISTANCE = 0.02
"""Nats by which one model is better than the other."""

TARGET = 0.01
"""Share of the population that a model's threshold makes worse: what the default policy promises."""


@dataclass(frozen=True)
class Population:
    """All rows there are; arrays are (n,)."""

    match: Ints
    strong_score: Floats
    weak_score: Floats
    group: Ints
    task: Sequence[str]
    language: Sequence[str]

    def drawn(self, n_rows: int, seed: int) -> tuple[GateRows, Ints]:
        """Draw groups, each as often as it comes, until there are `n_rows`; return the rows and their numbers."""
        rng = np.random.default_rng(seed)
        order = np.argsort(self.group, kind="stable")
        starts = np.searchsorted(self.group[order], np.arange(self.group.max() + 2))
        picked = rng.integers(0, starts.size - 1, n_rows)
        rows = [order[starts[one] : starts[one + 1]] for one in picked]
        numbers = np.concatenate(rows)[:n_rows]
        group = np.repeat(np.arange(n_rows), [one.size for one in rows])[:n_rows]
        task, language = np.asarray(self.task), np.asarray(self.language)
        return GateRows(
            match=self.match[numbers],
            strong_score=self.strong_score[numbers],
            weak_score=self.weak_score[numbers],
            group=group,
            weight=np.ones(n_rows),
            slices={"task": list(task[numbers]), "language": list(language[numbers])},
        ), numbers


def answers_of(p_match: Floats, match: Ints) -> ServedAnswers:
    """Return a model's answers, at the lowest threshold that makes at most `TARGET` of the population worse."""
    order = np.argsort(-p_match, kind="stable")
    worse = np.cumsum(match[order] == 0)
    n_weak = int(np.searchsorted(worse, TARGET * match.size, side="right"))
    goes_weak = np.zeros(match.size, dtype=bool)
    goes_weak[order[:n_weak]] = True
    return ServedAnswers(p_match, goes_weak)


def at_distance(p_match: Floats, towards: Floats, match: Ints) -> Floats:
    """Move in log-odds from one model towards another, or past it, to where the log loss is higher by `DISTANCE`."""
    base, step = logit(p_match), logit(towards) - logit(p_match)

    def excess(share: float) -> float:
        return log_loss(expit(base + share * step), match) - log_loss(p_match, match) - DISTANCE

    reach = 1.0
    while excess(reach) < 0:
        reach *= 2
    return expit(base + brentq(excess, 0.0, reach) * step)


def n_promoted(
    population: Population,
    champion: Floats,
    challenger: Floats,
    *,
    n_rows: int,
    tries: int,
    limits: GateLimits | None = None,
) -> int:
    """Count how often the challenger passes, each time on other rows."""
    sides = answers_of(champion, population.match), answers_of(challenger, population.match)
    promoted = 0
    for seed in range(tries):
        rows, numbers = population.drawn(n_rows, seed)
        taken = [ServedAnswers(one.p_match[numbers], one.goes_weak[numbers]) for one in sides]
        checks = compare(rows, *taken, limits or GateLimits(), seed=seed)
        promoted += all(check.is_met for check in checks)
    return promoted


def drawn_population(n: int, seed: int) -> tuple[Population, Floats]:
    """Return synthetic rows, a tenth of them in another language, and the probabilities that they were drawn from."""
    rng = np.random.default_rng(seed)
    p_match = expit(rng.normal(2.4, 1.2, n))
    match = (rng.random(n) < p_match).astype(np.int64)
    strong = np.where(match == 0, 1.0, (rng.random(n) < 0.8).astype(float))
    population = Population(
        match=match,
        strong_score=strong,
        weak_score=np.where(match == 0, 0.0, strong),
        group=np.arange(n) // 2,
        task=rng.choice(["maths", "chat", "code"], n).tolist(),
        language=np.where(rng.random(n) < 0.1, "fi", "en").tolist(),
    )
    return population, p_match
