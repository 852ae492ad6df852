"""What the live check of promises is worth: months of traffic from real rows, with and without drift.

    python -m tests.bench.live_promises LOGS... [--families DIR] [--months 1000] [--pairs 1000]

A router of the shipped recipe answers all rows out of fold. For every twenty months one half of the groups solves the
policies, the other half is the traffic. A month has `--pairs` requests of which both answers are judged, a random
share of all. Each month drifts, or not, from a moment drawn uniformly over it: the weak model gets worse on a share of
what it did well, or half of the traffic is a family of sources that the router has never seen (`--families`, the
`--answers` of `tests.bench.unfamiliar`). A promise is broken where the share made worse, averaged over the month in
expectation at the thresholds in force, is above what is promised; with `--tighten` and without. It is told where the
lower bound without is above, falsely where the promise was kept.
"""

from __future__ import annotations

import argparse
import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from tests.bench.recipe import CHAMPION, Learned, learned, read
from tests.bench.unfamiliar import PATH, SERVED, Asked, policy_rows
from turnout.serving.cli.tables import console
from turnout.serving.decision.tightening import LADDER
from turnout.serving.observe.drift.betting import WEIGHTS, log_capital_above
from turnout.serving.observe.drift.keeping import Seen, step_to_keep
from turnout.serving.observe.drift.promises import ENOUGH_EVENTS, RECENT_DAYS
from turnout.training.arrays import Floats, Ints
from turnout.training.policy.policy import risk_path
from turnout.training.policy.solve import calibrate, calibrated

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

    `expected` is what the rows that solved the ladder have made worse at each step.
    """

    expected: tuple[float, ...]
    depth: Ints
    match: Ints
    unknown_depth: Ints
    unknown_match: Ints


def main() -> None:
    """Simulate and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("logs", type=Path, nargs="+")
    arguments.add_argument("--families", type=Path)
    arguments.add_argument("--months", type=int, default=1000)
    arguments.add_argument("--pairs", type=int, nargs="+", default=[1000])
    given = arguments.parse_args()
    rows = read(given.logs)
    router = learned(rows, np.arange(rows.source.size), [CHAMPION], 0, balanced=True)
    shown = Table("max_worse", "drift", "pairs", *COLUMNS, title=f"{given.months} months")
    for level in LEVELS:
        splits = [split(router, level, seed, given.families) for seed in range(given.months // MONTHS_A_SPLIT)]
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
    depth, is_worse = draws(traffic, drift, pairs, begins, rng)
    worse_depth = np.where(is_worse, depth, 0)
    steps = len(LADDER)
    counts = np.zeros((steps, pairs + 1), np.int64)
    counts[:, 1:] = [np.cumsum(worse_depth > step) for step in range(steps)]
    looks = np.linspace(0, pairs, LOOKS + 1).astype(int)
    step, spent, steps_taken = 0, 0, []
    for since, until in itertools.pairwise(looks.tolist()):
        if pairs * level >= ENOUGH_EVENTS and since:
            first = max(0, since - round(pairs * RECENT_DAYS / 30))
            recent = (counts[:, since] - counts[:, first]).tolist()
            seen = Seen(since, [spent], [spent]), Seen(since - first, recent, recent)
            step = step_to_keep(level, traffic.expected, *seen, (pairs - since) / since)
        spent += int(counts[step, until] - counts[step, since])
        steps_taken += [step] * (until - since)
    taken, is_after = np.array(steps_taken), np.arange(pairs) >= begins
    worse, weak = (np.where(is_after, after[one][:, None], before[one][:, None]) for one in (0, 1))
    at = taken, np.arange(pairs)
    return worse[0].mean(), worse[at].mean(), is_told(counts[0, 1:], level), weak[0].mean(), weak[at].mean()


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
) -> tuple[Ints, np.ndarray]:
    """Return (pairs,) depth of each judged request, and whether its weak answer is worse."""
    rows = rng.integers(traffic.match.size, size=pairs)
    depth, worse = traffic.depth[rows], traffic.match[rows] == 0
    is_after = np.arange(pairs) >= begins
    if drift == "family":
        is_new = is_after & (rng.random(pairs) < 0.5)
        new = rng.integers(traffic.unknown_match.size, size=pairs)
        depth = np.where(is_new, traffic.unknown_depth[new], depth)
        return depth, np.where(is_new, traffic.unknown_match[new] == 0, worse)
    return depth, worse | (is_after & (rng.random(pairs) < float(drift)))


if __name__ == "__main__":
    main()
