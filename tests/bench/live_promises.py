"""What the live check of promises is worth: months of traffic from real rows, with and without drift.

    python -m tests.bench.live_promises LOGS... [--families DIR] [--months 1000] [--pairs 1000]
        [--levels 0.05] [--two-looks]

A router of the shipped recipe answers all rows out of fold. For every twenty months one half of the groups solves the
policies, the other half is the traffic. A month has `--pairs` requests of which both answers are judged, a random
share of all. Each month drifts, or not, from a moment drawn uniformly over it: the weak model gets worse on a share of
what it did well, or half of the traffic is a family of sources that the router has never seen (`--families`, the
`--answers` of `tests.bench.unfamiliar`). A promise is broken where the share made worse, averaged over the month in
expectation at the thresholds in force, is above what is promised; with `--tighten` and without. It is told where the
lower bound without is above, falsely where the promise was kept. `--two-looks` is of callers that have answers checked:
policies over three actions, whose ladder moves what the second look has to reach.
"""

from __future__ import annotations

import argparse
import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table
from scipy.special import expit

from tests.bench.recipe import CHAMPION, Learned, Rows, learned, read
from tests.bench.unfamiliar import PATH, SERVED, Asked, policy_rows
from turnout.serving.bundles.policy import NEVER
from turnout.serving.bundles.registry import find_encoder
from turnout.serving.cli.tables import console
from turnout.serving.decision.tightening import LADDER, PROMISE, checked_ladder, checked_measured
from turnout.serving.observe.drift.betting import WEIGHTS, log_capital_above
from turnout.serving.observe.drift.keeping import SeenPairs, step_to_keep
from turnout.serving.observe.drift.promises import ENOUGH_EVENTS, RECENT_DAYS
from turnout.serving.router.features import Featurizer
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.arrays import Floats, Ints
from turnout.training.check.learn import FirstLook, LearnedCheck, learn_check
from turnout.training.check.learn import Rows as LabelledRows
from turnout.training.dataset.answers import Answers
from turnout.training.encoders.encoders import DEFAULT_ENCODER, load_encoder
from turnout.training.fit.router import largest_weak_threshold
from turnout.training.learn.second_look import look_costs
from turnout.training.policy.checked import with_second_look
from turnout.training.policy.policy import risk_path
from turnout.training.policy.solve import calibrate, calibrated
from turnout.training.policy.three_actions import LookedAt, Thresholds

DELTA = 0.1
MONTHS_A_SPLIT = 20
LEVELS = (0.01, 0.02, 0.05)
WORSE = (0.0, 0.02, 0.05, 0.1)
LOOKS = 120
"""At the ladder, in a month: every six hours. A server looks every ten seconds."""

COLUMNS = ("broken without", "broken with", "told", "told falsely", "weak without", "weak with")


@dataclass(frozen=True)
class Traffic:
    """Rows to draw requests from: (n,) steps of the ladder at which each goes weak, and whether it matches.

    `expected` is what the rows that solved the ladder have made worse at each step, `told` (steps, n) the depth that a
    pair shows while a step is in force, where that is not all of it (two looks).
    """

    expected: tuple[float, ...]
    depth: Ints
    match: Ints
    unknown_depth: Ints
    unknown_match: Ints
    told: Ints | None = None

    def shown_depth(self, rows: Ints) -> Ints:
        """Return (steps, m) what pairs of some rows show at each step in force."""
        if self.told is None:
            return np.broadcast_to(self.depth[rows], (len(LADDER), rows.size))
        return self.told[:, rows]


def main() -> None:
    """Simulate and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("logs", type=Path, nargs="+")
    arguments.add_argument("--families", type=Path)
    arguments.add_argument("--months", type=int, default=1000)
    arguments.add_argument("--pairs", type=int, nargs="+", default=[1000])
    arguments.add_argument("--levels", type=float, nargs="+", default=LEVELS)
    arguments.add_argument("--two-looks", action="store_true")
    given = arguments.parse_args()
    rows = read(given.logs)
    router = learned(rows, np.arange(rows.source.size), [CHAMPION], 0, balanced=True)
    looked = looked_again(rows, router) if given.two_looks else None
    for level in given.levels:
        shown = Table("max_worse", "drift", "pairs", *COLUMNS, title=f"{given.months} months")
        seeds = range(given.months // MONTHS_A_SPLIT)
        if looked is None:
            splits = [split(router, level, seed, given.families) for seed in seeds]
        else:
            splits = [of_two_looks(router, looked, level, seed) for seed in seeds]
        for drift in (*WORSE, "family"):
            if drift == "family" and splits[0].unknown_match.size == 0:
                continue
            for pairs in given.pairs:
                shown.add_row(f"{level:g}", named(drift), str(pairs), *figures(splits, level, drift, pairs))
        console().print(shown)


def named(drift: float | str) -> str:
    """Return the drift in words."""
    if isinstance(drift, str):
        return "half is a new family"
    return f"weak worse on {drift:.0%}" if drift else "none"


def split(router: Learned, level: float, seed: int, families: Path | None) -> Traffic:
    """Solve the ladder on one half of the groups; the other half is the traffic."""
    names, number = np.unique(router.rows.group, return_inverse=True)
    is_ours = (np.random.default_rng(seed).random(names.size) < 0.5)[number]
    ours, theirs = router.rows.take(np.flatnonzero(is_ours)), router.rows.take(np.flatnonzero(~is_ours))
    familiarity = router.solved.router.familiarity
    assert familiarity is not None
    solved = calibrate(router.solved.router.linear, ours, familiarity.rare_idf)
    risk = risk_path(solved, policy_rows(ours, solved), seed)
    heads, is_unlike = calibrated(solved, theirs.raw), theirs.is_out_of_distribution(solved)
    depth, expected = np.zeros(theirs.match.size, np.int64), []
    for share in LADDER:
        place = risk.place(share * level) if share else None
        expected.append(0.0 if place is None else risk.share_worse[place])
        if place is not None:
            threshold = risk.thresholds[place]
            depth += (solved.cascade(heads, threshold).p_match >= threshold) & ~is_unlike
    unknown = unknown_family(families, level, seed) if families is not None else (np.empty(0, int), np.empty(0, int))
    return Traffic(tuple(expected), depth, theirs.match, *unknown)


def of_two_looks(router: Learned, looked: LookedAt, level: float, seed: int) -> Traffic:
    """Solve policies over three actions on one half of the groups; the other half is the traffic."""
    names, number = np.unique(looked.group, return_inverse=True)
    is_ours = (np.random.default_rng(seed).random(names.size) < 0.5)[number]
    ours, theirs = looked.take(np.flatnonzero(is_ours)), looked.take(np.flatnonzero(~is_ours))
    promises = [one for one in router.solved.policies if one.kind == PROMISE]
    policies = with_second_look(promises, ours, ours, seed)
    policy = next(one for one in policies if one.name == f"max_worse={level:g}")
    checked = policy.checked
    assert checked is not None
    ladder = checked_ladder(policies, policy) or (NEVER,) * len(LADDER)
    own = Thresholds(checked.t_strong, checked.t_weak, checked.t_accept)
    depth = own.answered_weak(theirs).astype(np.int64)
    for t_accept in ladder[1:]:
        depth += Thresholds(checked.t_strong, NEVER, t_accept).answered_weak(theirs)
    unchecked, _, _ = own.actions(theirs)
    in_doubt = np.where(np.any(own.actions(theirs), axis=0), sum(one < NEVER for one in ladder), 0)
    told = np.array([np.where(unchecked, in_doubt, depth) if step == 0 else depth for step in range(len(ladder))])
    told[[one >= NEVER for one in ladder]] = in_doubt
    return Traffic(checked_measured(policies, policy), depth, theirs.match, np.empty(0, int), np.empty(0, int), told)


def looked_again(rows: Rows, router: Learned) -> LookedAt:
    """Learn the second look of all rows by the recipe of `turnout train`, and return what both say out of fold."""
    solved, said, records = router.solved.router, router.rows, rows.data.records
    heads = calibrated(solved, said.raw)
    p_route = expit(largest_weak_threshold(heads, solved.exit_band))
    first = FirstLook(heads.fast, p_route, said.is_out_of_distribution(solved))
    encoder = load_encoder(find_encoder(DEFAULT_ENCODER))
    ngrams = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens, LATEST_HARNESS_RULES).ngrams
    labels = LabelledRows(said.match, said.group, np.ones(said.match.size), rows.source)
    found = learn_check(Answers.of(records, ngrams), labels, first)
    assert isinstance(found, LearnedCheck)
    second = np.full(said.match.size, -1.0)
    second[found.place] = np.nan_to_num(found.p_checked, nan=-1.0)
    costs = look_costs(None, np.zeros(said.match.size))
    scores = said.weak_score, said.strong_score
    return LookedAt(p_route, second, said.match, *scores, said.group, costs, first.is_unlike)


def unknown_family(families: Path, level: float, seed: int) -> tuple[Ints, Ints]:
    """Return depth and match of a family that the router was not taught, drawn by the seed; none at other levels."""
    if any(share and round(share * level, 6) not in PATH for share in LADDER):
        return np.empty(0, int), np.empty(0, int)
    files = sorted(path for path in families.glob("*.npz") if path.stem != "everyday")
    asked = Asked(**np.load(files[seed % len(files)]))
    depth = sum(asked.weak(round(share * level, 6), SERVED).astype(int) for share in LADDER if share)
    return np.asarray(depth), 1 - asked.is_worse.astype(int)


def figures(splits: list[Traffic], level: float, drift: float | str, pairs: int) -> list[str]:
    """Return the cells of one row of the table."""
    months = [
        month(one, level, drift, pairs, 1000 * place + n)
        for place, one in enumerate(splits)
        for n in range(MONTHS_A_SPLIT)
    ]
    without, kept, told, weak, weak_kept = np.array(months).T
    is_broken = without > level
    shares = (is_broken.mean(), (kept > level).mean(), (told * is_broken).mean(), (told * ~is_broken).mean())
    return [*(f"{one:.1%}" for one in (*shares, weak.mean(), weak_kept.mean()))]


def month(traffic: Traffic, level: float, drift: float | str, pairs: int, seed: int) -> tuple[float, ...]:
    """Live through one month twice: at the threshold as solved, and at those that `--tighten` takes.

    Returns:
        Expected share made worse without and with it, whether the lower bound without it ever went above the level,
        and the shares that went weak.
    """
    rng = np.random.default_rng(seed)
    begins = int(rng.integers(pairs)) if drift else pairs
    before, after = rates(traffic, 0.0), rates(traffic, drift)
    depth, shown_depth, is_worse = draws(traffic, drift, pairs, begins, rng)
    steps = len(LADDER)
    served = np.cumsum(is_worse & (depth > np.arange(steps)[:, None]), axis=1)  # by step in force
    counts = np.zeros((steps, pairs + 1), np.int64)
    looks = np.linspace(0, pairs, LOOKS + 1).astype(int)
    step, spent, steps_taken = 0, 0, []
    for since, until in itertools.pairwise(looks.tolist()):
        if pairs * level >= ENOUGH_EVENTS and since:
            first = max(0, since - round(pairs * RECENT_DAYS / 30))
            recent = (counts[:, since] - counts[:, first]).tolist()
            seen = SeenPairs(since, [spent], [spent]), SeenPairs(since - first, recent, recent)
            step = step_to_keep(level, traffic.expected, *seen, (pairs - since) / since)
        told = is_worse[since:until] & (shown_depth[step, since:until] > np.arange(steps)[:, None])
        counts[:, since + 1 : until + 1] = counts[:, since : since + 1] + np.cumsum(told, axis=1)
        spent += int(served[step, until - 1] - (served[step, since - 1] if since else 0))
        steps_taken += [step] * (until - since)
    taken, is_after = np.array(steps_taken), np.arange(pairs) >= begins
    worse, weak = (np.where(is_after, after[one][:, None], before[one][:, None]) for one in (0, 1))
    at = taken, np.arange(pairs)
    return worse[0].mean(), worse[at].mean(), is_told(served[0], level), weak[0].mean(), weak[at].mean()


def is_told(n_worse: Ints, level: float) -> bool:
    """Return whether the lower bound after any of the pairs, of which so many were made worse so far, is above."""
    zeros, ones = np.zeros((2, n_worse.size, WEIGHTS.size), np.int64)
    ones[:, 0], zeros[:, 0] = n_worse, np.arange(1, n_worse.size + 1) - n_worse
    return bool((log_capital_above(zeros, ones, np.array([level])) >= -math.log(DELTA)).any())


def rates(traffic: Traffic, drift: float | str) -> tuple[Floats, Floats]:
    """Return (steps,) expected share made worse and share to the weak model at each step of the ladder."""
    at = np.arange(len(LADDER))[:, None]
    weak, missed = traffic.depth > at, traffic.match == 0
    if drift == "family":
        new, new_missed = traffic.unknown_depth > at, traffic.unknown_match == 0
        worse = 0.5 * (weak & missed).mean(axis=1) + 0.5 * (new & new_missed).mean(axis=1)
        return worse, 0.5 * weak.mean(axis=1) + 0.5 * new.mean(axis=1)
    worse = (weak & missed).mean(axis=1)
    return worse + float(drift) * (weak & ~missed).mean(axis=1), weak.mean(axis=1)


def draws(
    traffic: Traffic, drift: float | str, pairs: int, begins: int, rng: np.random.Generator
) -> tuple[Ints, Ints, np.ndarray]:
    """Return (pairs,) depth of each judged request, (steps, pairs) what is shown of it, and whether it is worse."""
    rows = rng.integers(traffic.match.size, size=pairs)
    depth, worse = traffic.depth[rows], traffic.match[rows] == 0
    is_after = np.arange(pairs) >= begins
    if drift == "family":
        is_new = is_after & (rng.random(pairs) < 0.5)
        new = rng.integers(traffic.unknown_match.size, size=pairs)
        depth = np.where(is_new, traffic.unknown_depth[new], depth)
        return (
            depth,
            np.broadcast_to(depth, (len(LADDER), pairs)),
            np.where(is_new, traffic.unknown_match[new] == 0, worse),
        )
    return depth, traffic.shown_depth(rows), worse | (is_after & (rng.random(pairs) < float(drift)))


if __name__ == "__main__":
    main()
