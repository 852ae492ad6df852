"""What two looks are worth on traffic that the router has never seen: whole families of sources held out.

    python -m tests.bench.unfamiliar_two_looks LOGS... --signals TABLE [--family NAME=PATTERN,PATTERN ...]
        [--answers DIR] [--plot FILE.svg] [--seed 0]

As `tests.bench.unfamiliar`, with the second look learned from the other rows too, by the recipe of the shipped bundle:
the policies over three actions are solved out of fold on the rows that taught, and followed on the family. Beside them
stands the one-look policy of the same run. Figures: docs/decisions/training/0017.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from rich.table import Table
from scipy.special import expit

from tests.bench.recipe import CHAMPION, Learned, Rows, learned, read
from tests.bench.unfamiliar import FAMILIES, kept
from turnout.serving.bundles.manifest import Pair
from turnout.serving.bundles.registry import find_encoder
from turnout.serving.cli.tables import console
from turnout.serving.router.features import Featurizer
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.check.fit import calibrated
from turnout.training.check.learn import FirstLook, NoCheck, learn_check
from turnout.training.check.learn import Rows as CheckedRows
from turnout.training.check.reopen import reopen_checker
from turnout.training.check.rows import CheckRows
from turnout.training.check.signals import with_signals
from turnout.training.dataset.answers import Answers
from turnout.training.dataset.costs import RequestCosts, request_costs
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.encoders.encoders import DEFAULT_ENCODER, load_encoder
from turnout.training.fit.router import FittedRouter, HeadLogOdds, largest_weak_threshold
from turnout.training.learn.second_look import Looking, look_costs, looked_at_rows
from turnout.training.policy.solve import calibrated as calibrated_heads
from turnout.training.policy.three_actions import LookedAt, Thresholds, max_worse, trace_path
from turnout.training.progress import Reporter
from turnout.training.report.style import STYLE, save

PATH = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08)
SHOWN = (0.01, 0.03, 0.05)
LINES = {"one look": "one", "two looks": "two", "two looks, rows with a signal": "signal"}


@dataclass(frozen=True)
class Followed:
    """What the policies of each level do to the m rows of a family, (levels, m) each but the last four.

    Attributes:
        one: whether the one-look policy sends the row to the weak model.
        tried: whether two looks ask the weak model first.
        two: whether the weak model's answer is what the caller gets under two looks.
        usd: what two looks cost.
        has_signal: (m,) whether a signal came with the answer.
        strong_usd: (m,) what the strong model costs.
        lost: (m,) strong less weak score.
        strong: (m,) the strong model's score.
        is_worse: (m,) whether the weak model's answer is worse.
        is_unlike: (m,) whether the prompt is unfamiliar.
    """

    one: Bools
    tried: Bools
    two: Bools
    usd: Floats
    has_signal: Bools
    strong_usd: Floats
    lost: Floats
    strong: Floats
    is_worse: Bools
    is_unlike: Bools

    def part(self, line: str) -> tuple[Bools, Bools]:
        """Return (levels, m) what the weak model answers, and (m,) which rows are looked at."""
        every = np.ones(self.strong.size, bool)
        if line == "one":
            return self.one, every
        return self.two, self.has_signal if line == "signal" else every

    def figures(self, line: str) -> Floats:
        """Return (levels, 3): share that the weak model answers, share made worse, quality kept; NaN without rows."""
        weak, rows = self.part(line)
        if not rows.any():
            return np.full((len(PATH), 3), np.nan)
        weak = weak[:, rows]
        kept = 1 - (weak * self.lost[rows]).sum(axis=1) / self.strong[rows].sum()
        return np.column_stack((weak.mean(axis=1), (weak & self.is_worse[rows]).mean(axis=1), kept))


def main() -> None:
    """Hold out each family and print one table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("logs", type=Path, nargs="+")
    arguments.add_argument("--signals", type=Path, required=True)
    arguments.add_argument("--family", action="append", help="NAME=PATTERN,PATTERN over the sources")
    arguments.add_argument("--answers", type=Path)
    arguments.add_argument("--plot", type=Path)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    families = dict(one.split("=", 1) for one in given.family) if given.family else FAMILIES
    reporter = Reporter()
    rows = read(given.logs)
    rows = replace(rows, data=with_signals(rows.data, given.signals, Pair(), reporter))
    answers = answers_of(rows)
    found: dict[str, Followed] = {}
    with reporter.stage("Holding out families", len(families)) as advance:
        for name, patterns in families.items():
            is_out = np.array([any(fnmatch(one, pattern) for pattern in patterns.split(",")) for one in rows.source])
            found[name] = kept(
                given.answers, name, Followed, lambda is_out=is_out: followed(rows, answers, is_out, given.seed)
            )
            advance(1)
    console().print(shown(found))
    if given.plot:
        with mpl.rc_context(STYLE):
            given.plot.write_bytes(save(figure_of(found), "frontier").svg)


def answers_of(rows: Rows) -> Answers:
    """Read the answers of all rows."""
    encoder = load_encoder(find_encoder(DEFAULT_ENCODER))
    ngrams = Featurizer(encoder.tokenizer_json, encoder.card.max_tokens, LATEST_HARNESS_RULES).ngrams
    return Answers.of(rows.data.records, ngrams)


def followed(rows: Rows, answers: Answers, is_out: Bools, seed: int) -> Followed:
    """Learn both looks without a family, solve every level, and follow the policies on the family."""
    out = np.flatnonzero(is_out & ~np.isin(rows.group, rows.group[~is_out]))
    learn = np.flatnonzero(~is_out)
    router = learned(rows, learn, [CHAMPION], seed, balanced=True)
    taught, graph = second_look(rows, answers, learn, router, seed)
    family = told(rows, answers, out, router.solved.router, graph)
    solved = [solve(taught, level, seed) for level in PATH]
    acted = [two.actions(family) for _, two in solved]
    data = rows.data
    return Followed(
        one=np.array([one.answered_weak(one_look(family)) for one, _ in solved]),
        tried=np.array([accepted | escalated for _, accepted, escalated in acted]),
        two=np.array([weak | accepted for weak, accepted, _ in acted]),
        usd=np.array([two.usd(family) for _, two in solved]),
        has_signal=has_signal(answers, out),
        strong_usd=family.costs.strong,
        lost=data.strong_score[out] - data.weak_score[out],
        strong=data.strong_score[out],
        is_worse=data.match[out] == 0,
        is_unlike=np.zeros(out.size, bool) if family.is_unlike is None else family.is_unlike,
    )


def solve(taught: LookedAt, level: float, seed: int) -> tuple[Thresholds, Thresholds]:
    """Return the thresholds of one look and of two that keep "at most this share is made worse"."""
    alone = one_look(taught)
    one = max_worse(alone, trace_path(alone, kinds=("weak", "strong")), level, seed)
    return one.thresholds, max_worse(taught, trace_path(taught), level, seed).thresholds


def one_look(rows: LookedAt) -> LookedAt:
    """Return the rows as a caller sees them that can't check: the unfamiliar ones go strong at every threshold."""
    first = rows.first if rows.is_unlike is None else np.where(rows.is_unlike, -1.0, rows.first)
    return replace(rows, first=first, second=first, is_unlike=None)


def second_look(rows: Rows, answers: Answers, learn: Ints, router: Learned, seed: int) -> tuple[LookedAt, bytes]:
    """Learn the second look as `train` does; return its rows, out of fold, and its graph."""
    data, solved = rows.data, router.solved
    costs = request_costs([data.records[row] for row in learn], Pair())
    taught = replace(router.rows, costs=costs if isinstance(costs, RequestCosts) else None)
    heads = calibrated_heads(solved.router, taught.raw)
    first = first_look(heads, solved.router, taught.is_out_of_distribution(solved.router))
    looking = Looking(data, learn, taught, answers.take(learn), Pair(), seed)
    labelled = CheckedRows(taught.match, taught.group, data.weight[learn], rows.source[learn])
    found = learn_check(looking.answers, labelled, first)
    if isinstance(found, NoCheck):
        raise SystemExit(found.reason)
    return looked_at_rows(looking, first, found), found.graph


def first_look(heads: HeadLogOdds, router: FittedRouter, is_unlike: Bools) -> FirstLook:
    """Return what the second look reads of the first."""
    return FirstLook(heads.fast, expit(largest_weak_threshold(heads, router.exit_band)), is_unlike)


def told(rows: Rows, answers: Answers, out: Ints, router: FittedRouter, graph: bytes) -> LookedAt:
    """Return what both looks, which have seen none of some rows, say of them."""
    table: FeatureTable = rows.table.take(out)
    first = first_look(router.log_odds(table), router, router.is_out_of_distribution(table))
    checker, head = reopen_checker(graph)
    among = answers.take(out)
    features = CheckRows.of(among.rows, first.fast[among.place])
    served = calibrated(
        checker.parts(features).sum(axis=1) + checker.intercept, checker.gate.cell(features), checker.calibrators
    )
    odds = np.where(first.is_unlike[among.place], head.log_odds(features), served)
    second = np.full(out.size, -1.0)
    second[among.place] = np.nan_to_num(expit(odds), nan=-1.0)
    data = rows.data
    costs = request_costs([data.records[row] for row in out], Pair())
    return LookedAt(
        first.p_route,
        second,
        data.match[out],
        data.weak_score[out],
        data.strong_score[out],
        rows.group[out],
        look_costs(costs if isinstance(costs, RequestCosts) else None, np.zeros(out.size)),
        first.is_unlike,
    )


def has_signal(answers: Answers, out: Ints) -> Bools:
    """Return (m,) whether a signal came with the answer of each of some rows."""
    among = answers.take(out)
    known = np.zeros(out.size, bool)
    known[among.place] = ~np.isnan(among.rows.signals).all(axis=1)
    return known


def shown(found: dict[str, Followed]) -> Table:
    """Return the table of families, with their mean and worst."""
    columns = [f"max_worse={level:g} {name}: weak, worse, quality" for level in SHOWN for name in LINES]
    table = Table("family", "rows", "with a signal", "unfamiliar", *columns, "cost at 0.05")
    for name, one in found.items():
        cells = [one.figures(line)[PATH.index(level)] for level in SHOWN for line in LINES.values()]
        cost = one.usd[PATH.index(0.05)].sum() / one.strong_usd.sum()
        counts = f"{one.strong.size:,}", f"{one.has_signal.mean():.0%}", f"{one.is_unlike.mean():.0%}"
        table.add_row(name, *counts, *(cell(*three) for three in cells), f"{cost:.2f}")
    means = [summary(found.values(), line) for line in LINES.values()]
    for place, name in enumerate(("mean", "worst")):
        cells = [means[line][place][PATH.index(level)] for level in SHOWN for line in range(len(LINES))]
        table.add_row(name, "", "", "", *(cell(*three) for three in cells), "")
    return table


def cell(weak: float, worse: float, quality: float) -> str:
    """Return three figures, for people."""
    return "-" if np.isnan(weak) else f"{weak:.1%} {worse:.1%} {quality:.3f}"


def summary(found: Iterable[Followed], line: str) -> tuple[Floats, Floats]:
    """Return (levels, 3) the means over families, and the least share and quality with the most made worse."""
    every = np.array([one.figures(line) for one in found])
    every = every[~np.isnan(every).any(axis=(1, 2))]
    if not every.size:
        nothing = np.full((len(PATH), 3), np.nan)
        return nothing, nothing
    low, high = every.min(axis=0), every.max(axis=0)
    return every.mean(axis=0), np.column_stack((low[:, 0], high[:, 1], low[:, 2]))


def figure_of(found: dict[str, Followed]) -> Figure:
    """Draw what the weak model answers of families never seen, and what that makes worse: mean and worst family."""
    figure = Figure(figsize=(8.0, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    titles = "made worse, mean of the families", "made worse, worst family"
    for place, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        for name, line in LINES.items():
            both = summary(found.values(), line)
            axes.plot(100 * both[0][:, 0], 100 * both[place][:, 1], ".-", label=name)
        axes.axhline((5.0, 8.0)[place], linestyle="--", linewidth=0.8)
        axes.set(title=title, xlabel="% of a family answered by the weak model, mean", ylabel="%")
    panels[0].legend(fontsize=7, loc="upper left", bbox_to_anchor=(0.02, 0.8))
    return figure


if __name__ == "__main__":
    main()
