"""Figures of each router on the same rows: points, intervals over groups, and paired differences of ours to it.

Comes in: one ranking of the rows a router. Goes out: plain dicts for the table and `--json`. Definitions are those of
`turnout.training.evaluation.metrics`. Every router meets the same 1,000 draws of groups, so differences are paired.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed

from tests.bench.quality.questions import Questions
from turnout.training.evaluation import bootstrap, metrics
from turnout.training.evaluation.metrics import Ranking, SourceRanking

N_DRAWS = 1000
COMPARED = ("auroc", "auroc_within_source", "apgr")


@dataclass(frozen=True)
class Answers:
    """What a router said of n rows.

    Attributes:
        rank_by: higher goes to the weak model sooner.
        p_match: whose calibration is measured; None for rankings that are no probabilities.
    """

    rank_by: np.ndarray
    p_match: np.ndarray | None = None


def compare(questions: Questions, answers: dict[str, Answers], ours: dict[str, str], seed: int) -> dict[str, dict]:
    """Return figures and intervals of each router by its name, and under each key of `ours` that router's less its."""
    jobs = (delayed(_measure)(questions, one, seed) for one in answers.values())
    measured = dict(zip(answers, Parallel(n_jobs=-1)(jobs), strict=True))
    found: dict[str, dict] = {}
    for name, (point, draws) in measured.items():
        intervals = {key: bootstrap.interval(key, point[key], [draw.get(key) for draw in draws]) for key in draws[0]}
        less = {key: _differences(measured[own], measured[name]) for key, own in ours.items() if own != name}
        found[name] = {"figures": point, "intervals": intervals} | less
    return found


def _differences(own: tuple[dict, list[dict]], its: tuple[dict, list[dict]]) -> dict[str, dict]:
    """Return our figures less its, with intervals over the draws that both met."""
    found = {}
    for key in COMPARED:
        difference = _less(own[0][key], its[0][key])
        draws = [_less(one[key], other[key]) for one, other in zip(own[1], its[1], strict=True)]
        interval = bootstrap.interval(f"difference in {key}", difference, draws)
        found[key] = {"difference": difference, "interval": interval}
    return found


def _measure(questions: Questions, answers: Answers, seed: int) -> tuple[dict, list[dict]]:
    p = answers.p_match
    ranking, by_source = Ranking.of(answers.rank_by), SourceRanking.of(answers.rank_by, questions.source)
    by_p_match = None if p is None else Ranking.of(p)
    match = questions.match.astype(np.float64)
    strong, weak = questions.strong_score, questions.weak_score

    def figures(weights: np.ndarray | None) -> dict[str, float | None]:
        curve = metrics.quality_curve(ranking, strong, weak, weights)
        found = {
            "auroc": metrics.auroc(ranking, match, weights),
            "auroc_within_source": metrics.auroc_within_source(by_source, match, weights).auroc,
            "apgr": metrics.apgr(curve),
            "cpt50": metrics.cpt(curve, 0.5),
            "cpt80": metrics.cpt(curve, 0.8),
            "share_at_0.99": metrics.share_at_quality(curve, 0.99),
            "share_at_0.98": metrics.share_at_quality(curve, 0.98),
        }
        if p is not None and by_p_match is not None:
            found |= {"ece": metrics.ece(by_p_match, p, match, weights), "brier": metrics.brier(p, match, weights)}
        return found

    floor = {} if p is None else {"ece_floor": metrics.ece_floor(p, seed)}
    draws = [figures(weights) for weights in bootstrap.group_draws(questions.group, seed, N_DRAWS)]
    return figures(None) | floor, draws


def _less(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
