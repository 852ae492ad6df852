"""Quality: what routing did to the answers, by the scores that callers reported.

Comes in: logged rows. Goes out: `Quality`. Two ways that need no trust in the router: exploration shows what the strong
model would have scored where the weak one answered (doubly robust), and requests that both answered show it directly.
"""

from __future__ import annotations

import msgspec
import numpy as np

from turnout.training.arrays import Bools, Floats
from turnout.training.offpolicy.estimators import CONFIDENCE, Estimate, mean, ratio, robust_terms, sample_at
from turnout.training.offpolicy.outcome_model import predicted_scores
from turnout.training.offpolicy.rows import LoggedRows

ALPHA = (1.0 - CONFIDENCE) / 2
"""Probability left at either end of an interval."""


class Quality(msgspec.Struct, frozen=True):
    """Scores of what was served, exploration included, and of the strong model in its place; 95 % intervals.

    Attributes:
        judged: share of the routed answers that have a score.
        score: mean score as served; None where nobody judged any.
        score_lost: by how much it is below the strong model's; None where nothing shows the latter.
        unknown: requests that went below the strong model without a chance of its answer; left out of `score_lost`.
        pairs: requests with scores of both answers, that the rules had asked both for.
        made_worse: share of the requests that got a worse answer than the strong model's, from those pairs and those
            that went strong for certain; None without a pair.
        unpaired: requests that went below the strong model without a chance of a pair; left out of `made_worse`.
    """

    judged: float
    score: Estimate | None
    score_lost: Estimate | None
    unknown: int
    pairs: int
    made_worse: Estimate | None
    unpaired: int


def quality(rows: LoggedRows) -> Quality:
    """Return the quality of what was served on logged rows, of which there is at least one."""
    shown = _shown_scores(rows)
    is_judged = ~np.isnan(shown)
    can_know = rows.propensity[:, rows.top] > 0
    is_pair = _is_pair(rows) & is_judged
    return Quality(
        judged=float(is_judged.mean()),
        score=mean(shown[is_judged], rows.session[is_judged]) if is_judged.any() else None,
        score_lost=_lost(rows.only(can_know)),
        unknown=int((~can_know).sum()),
        pairs=int(is_pair.sum()),
        made_worse=_made_worse(rows, is_pair),
        unpaired=int((_is_below(rows) & ~_can_pair(rows)).sum()),
    )


def _shown_scores(rows: LoggedRows) -> Floats:
    """Return (n,) scores of the answers that were shown; NaN where nobody judged one."""
    routed, top = rows.score[np.arange(len(rows)), rows.taken], rows.score[:, rows.top]
    is_seen = ~np.isnan(top) & (rows.tries.escalated_to == rows.top)
    return np.where(rows.tries.ended_strong, np.where(is_seen, top, rows.tries.score), routed)


def _is_pair(rows: LoggedRows) -> Bools:
    """(n,) whether the answers of two models were wanted, the strong one's among them, and both have a score."""
    is_missing = rows.asked & np.isnan(rows.score)
    return np.asarray((rows.asked.sum(axis=1) == 2) & rows.asked[:, rows.top] & ~is_missing.any(axis=1))


def _is_below(rows: LoggedRows) -> Bools:
    """(n,) whether the answer that was shown is not the strong model's."""
    return np.asarray(rows.served != rows.top)


def _lost(rows: LoggedRows) -> Estimate | None:
    """Return how far the strong model is above what was served, row by row."""
    if not len(rows) or np.isnan(rows.score).all():
        return None
    predicted = predicted_scores(rows)
    certain = np.ones_like(rows.propensity)
    shown = np.column_stack([_shown_scores(rows)] * (rows.top + 1))
    everything = np.arange(rows.top + 1) == rows.served[:, None]
    served = sample_at(rows.session, shown, everything, certain, rows.served, predicted)
    to_strong = np.full(len(rows), rows.top)
    strong = sample_at(rows.session, rows.score, rows.asked, rows.propensity, to_strong, predicted)
    if not (served.weight.any() and strong.weight.any()):
        return None
    return mean(robust_terms(strong) - robust_terms(served), rows.session)


def _made_worse(rows: LoggedRows, is_pair: Bools) -> Estimate | None:
    """Return the share of requests made worse; each pair counts by how improbable it was to be asked for.

    Of a ladder a second answer is wanted with the same probability whichever rung was taken, so that those of all rungs
    weigh alike: who was served by the top is no worse, whoever else's answer was wanted beside it.

    Pairs speak of the requests that could be asked of both. Of the others those that went strong are no worse for
    certain, escalated ones among them; those that stayed below, as a rule may have them, nobody can tell.
    """
    if not is_pair.any():
        return None
    pairs = rows.only(is_pair)
    weight = 1.0 / pairs.pair_propensity
    is_worse = _is_below(pairs) & (_shown_scores(pairs) < pairs.score[:, pairs.top])
    found = ratio(weight * is_worse, weight, pairs.session)
    if not is_worse.any():
        found = _none_seen(found, len(np.unique(pairs.session)))
    can_pair = _can_pair(rows)
    share = float(can_pair.sum() / (can_pair | ~_is_below(rows)).sum())
    return found.times(share)


def _can_pair(rows: LoggedRows) -> Bools:
    """(n,) whether both answers could have been asked for."""
    return np.asarray(rows.pair_propensity > 0)


def _none_seen(found: Estimate, n_sessions: int) -> Estimate:
    """Return 0 with the exact end of its interval (Clopper and Pearson 1934): none among n is no proof of none."""
    return Estimate(found.value, found.low, None if found.high is None else 1.0 - ALPHA ** (1.0 / n_sessions))
