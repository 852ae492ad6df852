"""Policies over three actions: from a promise to the thresholds of both looks.

Comes in: calibrated p_match of both looks, outcomes, groups and costs of rows that no model which answers them was
fitted on. Goes out: `Thresholds`, tested at level `DELTA`, and what they do.

A request goes STRONG below `t_strong` and WEAK from `t_weak` on, both on the first look; between them the weak model
answers (TRY), and its answer is accepted from `t_accept` on, on the second look. The path of candidates is the
supported Pareto front of (risk, cost), traced on rows of its own and made nested: each point lets the weak model
answer a superset of the rows before. Testing along it (Pareto testing, Laufer-Goldshtein et al. 2023, on
Learn-then-Test) therefore sees counts that only rise, and the first refusal ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from turnout.serving.bundles.policy import NEVER
from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.policy.guarantees import binomial_upper_bound, is_mean_shown_at_most
from turnout.training.policy.policy import SOLVED_DELTA, one_row_a_group

PATH_POINTS = 400
KINDS = ("weak", "try", "strong")


@dataclass(frozen=True)
class Costs:
    """USD of each request, (n,): the weak answer, the strong answer, and what checking adds to a try.

    `check` is 0 where the signals are free with the call, and the price of the further call with a self-check.
    """

    weak: Floats
    strong: Floats
    check: Floats


@dataclass(frozen=True)
class LookedAt:
    """Rows with both looks.

    Attributes:
        first, second: (n,) calibrated p_match of the first and of the second look, in [0, 1].
        match: (n,) 0 or 1.
        weak_score, strong_score: (n,) in [0, 1].
        group: (n,) rows of one group are not independent.
        costs: of the rows.
        is_unlike: (n,) rows unlike the training data, which are tried and never go weak unchecked; None for none.
        is_unread: (n,) rows whose weak answer the log lacks, so that nobody knows whether it would be accepted:
            promises count it as accepted (`policy.unread`); None for none.
    """

    first: Floats
    second: Floats
    match: Ints
    weak_score: Floats
    strong_score: Floats
    group: Ints
    costs: Costs
    is_unlike: Bools | None = None
    is_unread: Bools | None = None

    def take(self, rows: Ints) -> LookedAt:
        """Return those of some rows."""
        costs = Costs(self.costs.weak[rows], self.costs.strong[rows], self.costs.check[rows])
        marks = (None if one is None else one[rows] for one in (self.is_unlike, self.is_unread))
        scores = (self.weak_score[rows], self.strong_score[rows])
        return LookedAt(self.first[rows], self.second[rows], self.match[rows], *scores, self.group[rows], costs, *marks)


@dataclass(frozen=True)
class Thresholds:
    """t_strong <= t_weak on the first look, t_accept on the second; `NEVER` is above every p_match."""

    t_strong: float
    t_weak: float
    t_accept: float

    def actions(self, rows: LookedAt) -> tuple[Bools, Bools, Bools]:
        """Return (n,) which rows go WEAK, which are accepted after a TRY, and which are escalated after one."""
        unlike = np.zeros(rows.first.size, bool) if rows.is_unlike is None else rows.is_unlike
        weak = ~unlike & (rows.first >= self.t_weak)
        tried = ~weak & ((rows.first >= self.t_strong) | unlike) & (self.t_accept < NEVER)
        accepted = tried & (rows.second >= self.t_accept)
        return weak, accepted, tried & ~accepted

    def answered_weak(self, rows: LookedAt) -> Bools:
        """Return (n,) which rows get the weak model's answer."""
        weak, accepted, _ = self.actions(rows)
        return weak | accepted

    def may_answer_weak(self, rows: LookedAt) -> Bools:
        """Return (n,) which rows may get the weak model's answer: also those tried whose verdict nobody knows."""
        weak, accepted, escalated = self.actions(rows)
        return weak | accepted | (False if rows.is_unread is None else escalated & rows.is_unread)

    def usd(self, rows: LookedAt) -> Floats:
        """Return (n,) what each row costs, discarded answers and checks included."""
        weak, accepted, escalated = self.actions(rows)
        costs = rows.costs
        tried = costs.weak + costs.check
        both = np.where(escalated, tried + costs.strong, costs.strong)
        return np.asarray(np.where(weak, costs.weak, np.where(accepted, tried, both)))


ALWAYS_STRONG = Thresholds(NEVER, NEVER, NEVER)


def trace_path(
    rows: LookedAt, *, wait_usd: float = 0.0, kinds: Sequence[str] = KINDS, points: int = PATH_POINTS
) -> list[Thresholds]:
    """Return the candidates from the safest to the cheapest, each answering a superset of the one before.

    For a price of one worse answer, lambda, the best decision at the second look is to accept where
    lambda * (1 - p_match) is at most what the strong answer costs: t_accept = 1 - mean strong cost / lambda. So
    t_accept itself names the point of the path; the thresholds of the first look then minimise the expected total,
    cost plus lambda * risk, over the rows sorted by the first look: two prefix sums and a running minimum. The risk is
    1 - p_match of the second look and not the label, which keeps the path smooth on few rows.

    Args:
        rows: that no test will use.
        wait_usd: price of letting a request wait for two models (escalation), for a cap on their share.
        kinds: actions that may be used; without `try` it is the one-look policy, without the others always-try.
        points: candidates at most.
    """
    second = np.unique(np.quantile(rows.second, np.linspace(0.0, 1.0, points + 1)))[::-1]
    strong_usd = float(rows.costs.strong.mean())
    order = np.argsort(rows.first, kind="stable")
    first = rows.first[order]
    ends = np.flatnonzero(np.concatenate((first[1:] != first[:-1], [True]))) + 1  # equal ones go the same way
    ends = np.concatenate(([0], ends))
    miss = 1.0 - rows.second
    path = [ALWAYS_STRONG]
    for t_accept in second:
        price = strong_usd / max(1.0 - float(t_accept), 1e-6)
        accepted = rows.second >= t_accept
        weak = rows.costs.weak + price * miss
        tried = rows.costs.weak + rows.costs.check + np.where(accepted, price * miss, rows.costs.strong + wait_usd)
        strong = rows.costs.strong
        sums = [np.concatenate(([0.0], np.cumsum(one[order])))[ends] for one in (strong, tried, weak)]
        low, high = cuts(sums[0], sums[1], sums[2], kinds)
        t_strong, t_weak = value_at(first, int(ends[low])), value_at(first, int(ends[high]))
        before = path[-1]
        path.append(Thresholds(min(t_strong, before.t_strong), min(t_weak, before.t_weak), float(t_accept)))
    return path


def cuts(strong: Floats, tried: Floats, weak: Floats, kinds: Sequence[str]) -> tuple[int, int]:
    """Return where TRY begins and where WEAK begins, at the least total; arguments are prefix sums."""
    n = strong.size - 1
    if "try" not in kinds:
        cut = int(np.argmin(strong + weak[-1] - weak))
        return cut, cut
    if "strong" not in kinds and "weak" not in kinds:
        return 0, n
    begin = strong - tried
    least = np.minimum.accumulate(begin)
    total = least + tried - weak + weak[-1]
    high = int(n if "weak" not in kinds else np.argmin(total))
    low = int(np.argmin(begin[: high + 1])) if "strong" in kinds else 0
    return low, high


def value_at(ascending: Floats, position: int) -> float:
    """Return the value at a cut between sorted ones; `NEVER` behind the last."""
    return float(ascending[position]) if position < ascending.size else NEVER


@dataclass(frozen=True)
class Solved:
    """What testing accepted, and the bound it rests on.

    Attributes:
        thresholds: the last accepted point of the path; `ALWAYS_STRONG` where none was.
        bound: upper bound of the risk at level 1 - `DELTA`; None where there is none.
    """

    thresholds: Thresholds
    bound: float | None

    @property
    def is_met(self) -> bool:
        """Whether anything may go to the weak model under the promise."""
        return self.thresholds != ALWAYS_STRONG


def max_worse(
    rows: LookedAt, path: Sequence[Thresholds], target: float, seed: int, level: float = SOLVED_DELTA
) -> Solved:
    """Solve "at most a share `target` of all requests gets a worse answer", at level 1 - `level`.

    Exact binomial bound over one row a group, along the path from the safest point on.
    """
    drawn = rows.take(one_row_a_group(rows.group, seed))

    def bound(thresholds: Thresholds) -> float:
        worse = thresholds.may_answer_weak(drawn) & (drawn.match == 0)
        return binomial_upper_bound(int(worse.sum()), drawn.match.size, level)

    return _along(path, bound, target)


def max_worse_of_weak(
    rows: LookedAt, path: Sequence[Thresholds], target: float, seed: int, level: float = SOLVED_DELTA
) -> Solved:
    """Solve "of what the weak model answers at most a share `target` is worse", at level 1 - `level`.

    The draws are the rows that the weak model answers, so few at the safe end that nothing could be shown there: the
    path begins where no worse answer among them would prove a quarter of the promise. That place follows from p_match
    alone, and no outcome chose it, so that the level holds.
    """
    drawn = rows.take(one_row_a_group(rows.group, seed))

    def count(thresholds: Thresholds) -> int:
        return int(thresholds.answered_weak(drawn).sum())

    enough = [point for point in path if binomial_upper_bound(0, count(point), level) <= target / 4]

    def bound(thresholds: Thresholds) -> float:
        worse = thresholds.may_answer_weak(drawn) & (drawn.match == 0)
        n_answered = int(thresholds.answered_weak(drawn).sum())
        return binomial_upper_bound(min(int(worse.sum()), n_answered), n_answered, level)

    return _along(enough, bound, target)


def min_quality(
    rows: LookedAt, path: Sequence[Thresholds], target: float, seed: int, level: float = SOLVED_DELTA
) -> Solved:
    """Solve "keep at least `target` of the strong model's mean score", by the betting bound on group means."""
    names, number = np.unique(rows.group, return_inverse=True)
    place = np.random.default_rng(seed).permutation(names.size)[number]
    sizes = np.bincount(place)
    accepted = ALWAYS_STRONG
    for point in path:
        lost = (rows.strong_score - rows.weak_score) * point.answered_weak(rows)
        lost = np.maximum(lost, (rows.strong_score - rows.weak_score) * point.may_answer_weak(rows))
        means = np.bincount(place, weights=lost - (1.0 - target) * rows.strong_score) / sizes
        if not is_mean_shown_at_most(means, 0.0, low=-1.0, high=target, delta=level):
            break
        accepted = point
    return Solved(accepted, None)


def with_cap(rows: LookedAt, share: float, *, tries: int = 25) -> list[Thresholds]:
    """Return the path on which at most `share` of the tracing rows wait for two models, at every point.

    The price of waiting is raised until the cap holds; 0 where it holds by itself.
    """
    low, high = 0.0, float(rows.costs.strong.mean()) * 64
    path = trace_path(rows)
    if _longest_wait(rows, path) <= share:
        return path
    for _ in range(tries):
        middle = (low + high) / 2
        found = trace_path(rows, wait_usd=middle)
        low, high, path = (low, middle, found) if _longest_wait(rows, found) <= share else (middle, high, path)
    return trace_path(rows, wait_usd=high)


def _longest_wait(rows: LookedAt, path: Sequence[Thresholds]) -> float:
    return max(float(point.actions(rows)[2].mean()) for point in path)


def _along(path: Sequence[Thresholds], bound: Callable[[Thresholds], float], target: float) -> Solved:
    """Walk from the safest point on and return the last before the first refusal.

    Bounds need not be monotone for the level to hold; where the path is nested and the draws are all rows, they are.
    """
    accepted, reached = ALWAYS_STRONG, None
    for point in path:
        tried = bound(point)
        if tried > target:
            break
        accepted, reached = point, tried
    return Solved(accepted, reached)
