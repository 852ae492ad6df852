"""From cold start to steady state: a source that the champion never saw, served, logged, and learned in two steps.

    python -m tests.bench.retraining.story SHARED_DATA [--both 0.25 0.5 1] [--others 4000] [--out FOLDER]

For each source with at least 1,000 rows: 30 % of its groups are the test, which no router learns from; the others
are its traffic, in two halves. A champion trained on the other sources serves the first half; of each request both
answers are obtained with probability `--both`, which gives a label. A challenger learns from old rows and new pairs,
the gate compares the two on the latest 40 % of the pairs, and what it promotes serves the second half; then once
more. Beside them stands a router that had the source's whole traffic from the start.

The division, the fit, the policies, the decision and the gate are those of `turnout retrain`; both answers' outcomes
are known here and stand for the second call. `--others` draws that many rows of the other sources, so that the fits
of one source take minutes. A run that was killed goes on from the sources that its `--out` holds: take a new folder
after a change of code.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from tests.bench.retraining.learner import Figures, Learned, figures_of, learn_router
from tests.bench.retraining.rows import RealRows, read_rows
from tests.bench.retraining.told import print_tables, write_plot
from turnout.serving.decision.rules.draws import Purpose, draw
from turnout.training.arrays import Ints
from turnout.training.dataset.splits import Part
from turnout.training.evaluation import bootstrap, metrics
from turnout.training.evaluation.metrics import Ranking
from turnout.training.progress import Reporter
from turnout.training.retrain.division import divide
from turnout.training.retrain.gate import GateLimits, GateRows, compare

MIN_ROWS = 1000
TEST_SHARE = 0.3
GATE_SHARE = 0.4
WIDE = GateLimits(log_loss=0.05, ece_excess=0.05)
"""The gate compares on 30 to 320 pairs here, of one source alone: with 0.01 nats of tolerance it could hardly let
anything in. A whole service has more traffic than its newest kind of requests."""

N_BOOTSTRAPS = 1000
START = "from the start"


class Chapter(msgspec.Struct, frozen=True):
    """One router of the story on the source's test.

    Attributes:
        source: that the champion never saw.
        both: probability with which both answers were obtained.
        name: which router.
        n_logs: requests of the source served by then.
        n_pairs: of them, with both answers.
        is_promoted: whether the gate let it in; True for those that stood no gate.
        meets_defaults: whether it would have with the limits that `turnout retrain` has by default.
        figures: on the test.
        auroc_less: AUROC less that of the router trained with the source from the start, with its paired 95 % interval.
    """

    source: str
    both: float
    name: str
    n_logs: int
    n_pairs: int
    is_promoted: bool
    meets_defaults: bool
    figures: Figures
    auroc_less: tuple[float, float, float]


@dataclass(frozen=True)
class World:
    """One source taken out: (m,) row numbers of its test, its two halves of traffic, and of the other sources."""

    source: str
    test: Ints
    waves: tuple[Ints, Ints]
    others: Ints


def worlds(real: RealRows, n_others: int, seed: int) -> Iterator[World]:
    """Yield each large source taken out; rows of others that share a group with it are left out."""
    names, counts = np.unique(real.source, return_counts=True)
    group = real.data.groups.group
    for number, source in enumerate(names[counts >= MIN_ROWS]):
        rng = np.random.default_rng([seed, number])
        own = np.flatnonzero(real.source == source)
        groups = rng.permutation(np.unique(group[own]))
        n_test = int(TEST_SHARE * groups.size)
        waves = np.array_split(groups[n_test:], 2)
        others = np.flatnonzero((real.source != source) & ~np.isin(group, group[own]))
        yield World(
            str(source),
            own[np.isin(group[own], groups[:n_test])],
            tuple(rng.permutation(own[np.isin(group[own], wave)]) for wave in waves),
            np.sort(rng.permutation(others)[:n_others]),
        )


def tell(real: RealRows, world: World, shares: Sequence[float], seed: int) -> Iterator[Chapter]:
    """Yield the chapters of one source: cold start, both retrainings at each share, and the router it is held to."""
    start = _learned(real, world.others, np.concatenate(world.waves), np.ones(real.source.size), seed)[0]
    cold, *_ = _learned(real, world.others, np.empty(0, np.int64), np.ones(real.source.size), seed)
    n_traffic = sum(wave.size for wave in world.waves)
    yield _chapter(real, world, START, start, start, shares[0], n_traffic, n_traffic)
    for both in shares:
        yield _chapter(real, world, "cold start", cold, start, both, 0, 0)
        champion, pairs, n_logs = cold, np.empty(0, np.int64), 0
        for number, wave in enumerate(world.waves, start=1):
            fresh = _explored(wave, both, seed)
            n_logs += wave.size
            champion, met = _retrained(real, world, champion, pairs, fresh, both, seed)
            pairs = np.concatenate([pairs, fresh])
            yield _chapter(real, world, f"retrained {number}", champion, start, both, n_logs, pairs.size, met)


def _explored(wave: Ints, both: float, seed: int) -> Ints:
    """Return the requests of which both answers were obtained: the server's own draw."""
    return np.array([row for row in wave if draw(Purpose.EXPLORATION, f"{seed}", f"{row}") < both], dtype=np.int64)


def _retrained(
    real: RealRows, world: World, champion: Learned, old: Ints, fresh: Ints, both: float, seed: int
) -> tuple[Learned, tuple[bool, bool]]:
    """Return who serves from now on, and whether the challenger met the wide and the default limits."""
    weight = np.ones(real.source.size)
    weight[np.concatenate([old, fresh])] = 1.0 / both
    challenger, test = _learned(real, np.concatenate([world.others, old]), fresh, weight, seed, GATE_SHARE)
    data = real.data
    rows = GateRows(
        data.match[test], data.strong_score[test], data.weak_score[test], data.groups.group[test], weight[test]
    )
    said = champion.answers(real, test), challenger.answers(real, test)
    wide, default = (
        all(check.is_met for check in compare(rows, *said, limits.at(champion.policy), seed=seed))
        for limits in (WIDE, GateLimits())
    )
    return (challenger if wide else champion), (wide, default)


def _learned(
    real: RealRows, old: Ints, fresh: Ints, weight: np.ndarray, seed: int, test_share: float = 0.0
) -> tuple[Learned, Ints]:
    """Learn from old rows, then fresh ones in their order; return the router and the rows kept apart to compare on."""
    rows = np.concatenate([old, fresh])
    group = np.unique(real.data.groups.group[rows], return_inverse=True)[1]
    created = np.concatenate([np.random.default_rng(seed).uniform(0, 1, old.size), 1.0 + np.arange(fresh.size)])
    division = divide(group, created, np.arange(rows.size) < old.size, test_share=test_share, seed=seed)
    fit, policy, test = (rows[division.part == part] for part in (Part.FIT, Part.POLICY, Part.TEST))
    return learn_router(real, fit, policy, weight, seed), test


def _chapter(
    real: RealRows,
    world: World,
    name: str,
    learned: Learned,
    start: Learned,
    both: float,
    n_logs: int,
    n_pairs: int,
    met: tuple[bool, bool] = (True, True),
) -> Chapter:
    said, held_to = learned.answers(real, world.test), start.answers(real, world.test)
    match = real.data.match[world.test].astype(np.float64)
    rankings = Ranking.of(said.p_match), Ranking.of(held_to.p_match)

    def less(weights: np.ndarray | None = None) -> float:
        a, b = (metrics.auroc(one, match, weights) for one in rankings)
        return float("nan") if a is None or b is None else a - b

    drawn = [less(one) for one in bootstrap.group_draws(real.data.groups.group[world.test], 0, N_BOOTSTRAPS)]
    low, high = np.nanquantile(drawn, bootstrap.TAILS)
    return Chapter(
        source=world.source,
        both=both,
        name=name,
        n_logs=n_logs,
        n_pairs=n_pairs,
        is_promoted=met[0],
        meets_defaults=met[1],
        figures=figures_of(real, world.test, said),
        auroc_less=(less(), float(low), float(high)),
    )


def main() -> None:
    """Tell the story of each source, keep the chapters, print the table and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--both", type=float, nargs="+", default=[0.25, 0.5, 1.0])
    parser.add_argument("--others", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("story"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kept, real, started = options.out / "story.json", read_rows(options.folder, Reporter()), time.monotonic()
    chapters = msgspec.json.decode(kept.read_bytes(), type=list[Chapter]) if kept.exists() else []
    chapters = [one for one in chapters if one.both in options.both]
    for world in worlds(real, options.others, options.seed):
        if world.source in {one.source for one in chapters}:
            continue
        chapters += tell(real, world, options.both, options.seed)
        kept.write_bytes(msgspec.json.format(msgspec.json.encode(chapters), indent=1))
        print(f"{world.source}: {time.monotonic() - started:.0f} s", flush=True)
    print_tables(chapters)
    write_plot(chapters, options.out)


if __name__ == "__main__":
    main()
