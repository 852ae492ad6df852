"""What the router is worth on traffic that it has never seen: whole families of sources held out.

    python -m tests.bench.unfamiliar LOGS... [--family NAME=PATTERN,PATTERN ...] [--everyday EASY HARD]
        [--answers DIR] [--plot FILE.svg] [--seed 0]

Each family in turn is left out; a router learns from the other rows by the recipe of the shipped bundle (settings of
its folds, sources balanced, promises solved out of fold) and is asked about the family. Rows that share a group with
the others are left out of it. `--everyday` names two files of prompts, one a line, that a router of all rows is asked
about; `--plot` draws both against each other for several limits of unfamiliarity. `--answers` keeps what was answered,
so that a killed run goes on. Figures: docs/decisions/training/0014; of earlier recipes: 0008.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.table import Table

from tests.bench.recipe import CHAMPION, Learned, Rows, learned, read
from tests.bench.unfamiliar_plot import draw
from turnout.serving.bundles.registry import find_encoder
from turnout.serving.cli.tables import console
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.serving.router.prompt import prompt_from_text
from turnout.training.arrays import Floats
from turnout.training.encoders.embeddings import FeatureTable, embed
from turnout.training.encoders.encoders import DEFAULT_ENCODER, load_encoder
from turnout.training.fit.router import FittedRouter, HeadLogOdds
from turnout.training.fit.unfamiliar import Familiarity, rare_share
from turnout.training.policy.policy import PolicyRows, risk_path
from turnout.training.policy.solve import LabelledLogOdds, calibrated
from turnout.training.progress import Reporter

T = TypeVar("T")

FAMILIES = {
    "medicine": "medagents-*,*-medmcqa,biochatter-*",
    "translation": "eamt-*",
    "maths": "zeroeval-*,*-gsm8k",
    "code": "tdp-*",
    "entities": "ner-*",
    "tables": "tabann-*",
    "Japanese chat": "shaberi-*",
    "sentiment": "parlasent-*",
    "function calls": "bfcl-*",
    "MMLU": "mzelling-mmlu",
    "trivia": "*-triviaqa",
    "policy areas": "textclass-policy-*",
    "toxicity": "textclass-toxicity-*",
    "claims": "textclass-env-*,textclass-mis*,textclass-sust-*,textclass-tech*",
    "Korean culture": "click-ko",
    "obscure facts": "ikp-facts",
    "finance": "financemath-*",
}
"""Patterns over the sources of both files of reference rows, by subject."""

LEVELS = (0.005, 0.01, 0.02, 0.05)
PATH = (0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1)
"""Levels of `max_worse` that the plot goes through."""


@dataclass(frozen=True)
class Asked:
    """What one router says of m prompts, at each level of `PATH`.

    Attributes:
        is_above: (limits, levels, m) whether `p_match` is at or above the threshold solved for a level under a limit.
        rare: (m,) share of rare n-grams.
        limits: limits of that share that flag none, 4 % (as served), 10 % and 20 % of the rows that taught it.
        lost: (m,) strong less weak score; empty where nobody knows.
        strong: (m,) the strong model's score.
        is_worse: (m,) whether the weak model's answer is worse.
    """

    is_above: np.ndarray
    rare: Floats
    limits: Floats
    lost: Floats
    strong: Floats
    is_worse: np.ndarray

    def weak(self, level: float, guard: int) -> np.ndarray:
        """Return (m,) what goes weak at a level under one of the limits."""
        return np.asarray(self.is_above[guard, PATH.index(level)] & (self.rare <= self.limits[guard]))


GUARDS = {"none": 0.0, "4 % of known rows flagged, as served": 0.04, "10 %": 0.10, "20 %": 0.20}
SERVED = 1


def main() -> None:
    """Hold out each family and print one table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("logs", type=Path, nargs="+")
    arguments.add_argument("--family", action="append", help="NAME=PATTERN,PATTERN over the sources")
    arguments.add_argument("--everyday", type=Path, nargs=2, metavar=("EASY", "HARD"))
    arguments.add_argument("--answers", type=Path)
    arguments.add_argument("--plot", type=Path)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    families = dict(one.split("=", 1) for one in given.family) if given.family else FAMILIES
    rows, reporter = read(given.logs), Reporter()
    found: dict[str, Asked] = {}
    with reporter.stage("Holding out families", len(families)) as advance:
        for name, patterns in families.items():
            is_out = np.array([any(fnmatch(one, pattern) for pattern in patterns.split(",")) for one in rows.source])
            found[name] = kept(given.answers, name, Asked, lambda is_out=is_out: held_out(rows, is_out, given.seed))
            advance(1)
    console().print(shown(found))
    if given.everyday:
        prompts = [path.read_text(encoding="utf-8").splitlines() for path in given.everyday]
        both = kept(given.answers, "everyday", Asked, lambda: everyday(rows, [*prompts[0], *prompts[1]], given.seed))
        n_easy = len(prompts[0])
        console().print(shown_everyday(both, n_easy))
        if given.plot:
            draw(frontier(found, both, n_easy), given.plot)


def kept(folder: Path | None, name: str, kind: type[T], ask: Callable[[], T]) -> T:
    """Return what was answered before, else ask and keep it."""
    if folder is None:
        return ask()
    path = folder / f"{name}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, **vars(ask()))
    return kind(**np.load(path))


def held_out(rows: Rows, is_out: np.ndarray, seed: int) -> Asked:
    """Return what a router that learned without a family says of it."""
    out = np.flatnonzero(is_out & ~np.isin(rows.group, rows.group[~is_out]))
    learn = np.flatnonzero(~is_out)
    router = learned(rows, learn, [CHAMPION], seed, balanced=True)
    strong, weak = rows.data.strong_score[out], rows.data.weak_score[out]
    return said(router, rows.table.take(out), strong - weak, strong, rows.data.match[out] == 0)


def everyday(rows: Rows, prompts: list[str], seed: int) -> Asked:
    """Return what a router of all rows says of some prompts."""
    learn = np.arange(rows.source.size)
    router = learned(rows, learn, [CHAMPION], seed, balanced=True)
    encoder = load_encoder(find_encoder(DEFAULT_ENCODER))
    asked = [prompt_from_text(text) for text in prompts]
    table = embed(asked, encoder, cache_dir=None, harness_rules=LATEST_HARNESS_RULES, n_threads=1)
    nothing = np.empty(0)
    return said(router, table, nothing, nothing, nothing)


def said(router: Learned, table: FeatureTable, lost: Floats, strong: Floats, is_worse: np.ndarray) -> Asked:
    """Return what a router says of prompts, its promises solved under each limit."""
    solved, shares = router.solved.router, router.rows.rare_share
    assert solved.familiarity is not None
    assert shares is not None
    rare_idf = solved.familiarity.rare_idf
    heads, rare = solved.log_odds(table), rare_share(solved.linear.scaler, rare_idf, table)
    limits = [
        1.0 if share == 0.0 else float(np.quantile(shares, 1 - share, method="higher")) for share in GUARDS.values()
    ]
    is_above = []
    for limit in limits:
        guarded = replace(solved, familiarity=Familiarity(rare_idf, np.float32(limit)))
        risk = risk_path(guarded, policy_rows(router.rows, guarded), 0)
        places = [risk.place(level) for level in PATH]
        thresholds = [None if place is None else risk.thresholds[place] for place in places]
        is_above.append([_above(guarded, heads, threshold) for threshold in thresholds])
    return Asked(np.array(is_above), rare, np.array(limits), lost, strong, is_worse)


def _above(router: FittedRouter, heads: HeadLogOdds, threshold: float | None) -> np.ndarray:
    if threshold is None:
        return np.zeros(heads.full.size, dtype=bool)
    return np.asarray(router.cascade(heads, threshold).p_match >= threshold)


def policy_rows(rows: LabelledLogOdds, router: FittedRouter) -> PolicyRows:
    """Return the rows that promises are solved on, as `training.policy.solve` has them."""
    return PolicyRows(
        heads=calibrated(router, rows.raw),
        match=rows.match,
        strong_score=rows.strong_score,
        weak_score=rows.weak_score,
        group=rows.group,
        is_out_of_distribution=rows.is_out_of_distribution(router),
    )


def shown(found: dict[str, Asked]) -> Table:
    """Return the table of families, with their mean and worst."""
    columns = [f"max_worse={level:g}: weak, worse, quality" for level in LEVELS]
    table = Table("family", "rows", "unfamiliar", *columns, title="Families held out whole, as served")
    for name, one in found.items():
        cells = [figures(one, level, SERVED) for level in LEVELS]
        unlike = (one.rare > one.limits[SERVED]).mean()
        table.add_row(name, f"{one.rare.size:,}", f"{unlike:.0%}", *(f"{a:.1%} {b:.1%} {c:.3f}" for a, b, c in cells))
    every = np.array([[figures(one, level, SERVED) for level in LEVELS] for one in found.values()])
    mean, worst = every.mean(axis=0), every.max(axis=0)
    least = every[:, :, 2].min(axis=0)
    table.add_row("mean", "", "", *(f"{a:.1%} {b:.1%} {c:.3f}" for a, b, c in mean))
    table.add_row("worst", "", "", *(f"{b:.1%} {c:.3f}" for b, c in zip(worst[:, 1], least, strict=True)))
    return table


def figures(one: Asked, level: float, guard: int) -> tuple[float, float, float]:
    """Return the share that goes weak, the share made worse and the quality kept."""
    weak = one.weak(level, guard)
    quality = 1 - (weak * one.lost).sum() / one.strong.sum()
    return float(weak.mean()), float((weak & one.is_worse.astype(bool)).mean()), float(quality)


def shown_everyday(both: Asked, n_easy: int) -> Table:
    """Return how many of the easy and the hard prompts go weak, and how many are unfamiliar."""
    table = Table("", "unfamiliar", *(f"max_worse={level:g}" for level in LEVELS), title="Everyday prompts to the weak")
    for name, part in (("easy", slice(0, n_easy)), ("hard", slice(n_easy, None))):
        unlike = (both.rare > both.limits[SERVED])[part]
        counts = [str(int(both.weak(level, SERVED)[part].sum())) for level in LEVELS]
        table.add_row(f"{name} ({unlike.size})", str(int(unlike.sum())), *counts)
    return table


def frontier(found: dict[str, Asked], both: Asked, n_easy: int) -> dict[str, list[tuple[float, float, float, float]]]:
    """Return for each guard and level: share of easy and of hard prompts to the weak, worse on average and at worst."""
    lines = {}
    for guard, name in enumerate(GUARDS):
        points = []
        for level in PATH:
            weak = both.weak(level, guard)
            worse = [figures(one, level, guard)[1] for one in found.values()]
            points.append(
                (float(weak[:n_easy].mean()), float(weak[n_easy:].mean()), float(np.mean(worse)), float(max(worse)))
            )
        lines[name] = points
    return lines


if __name__ == "__main__":
    main()
