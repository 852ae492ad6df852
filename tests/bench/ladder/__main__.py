"""Measure a ladder of three on rows that have the scores of all three.

    python -m tests.bench.ladder PAIR.parquet --scores TABLE.parquet --top o3 [--reasoning-tokens 400] [--usd 2 8]
        [--redraws 500] [--refits 20 --notes FILE] [--cost 2] [--bundle FOLDER]

`PAIR.parquet` holds gpt-4o-mini and gpt-4o. Every p is of fits without the row's group, Platt's line of the other
folds; paths are traced by p and cost alone. `--cost` compares the CPU time of training the pair and the ladder,
`--bundle` times its rungs. Costs are those of the price list, or of `--usd INPUT OUTPUT` for the top.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")  # so that CPU time is this process's

import numpy as np
from scipy.special import expit

from tests.bench.ladder.curves import Way, aiq, cost_at, group_weights, shown
from tests.bench.ladder.redraws import held_fixed, refitted
from tests.bench.ladder.rivals import predicted, way
from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.ladder import rung_of
from turnout.serving.bundles.manifest import Pair
from turnout.serving.bundles.registry import find_encoder
from turnout.serving.decision import prices
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.serving.router.prompt import Prompt
from turnout.training.dataset.ladder import LadderRead, load_ladder
from turnout.training.dataset.ladder_costs import ladder_costs
from turnout.training.dataset.splits import Part
from turnout.training.encoders.embeddings import FeatureTable, default_cache_dir, embed
from turnout.training.encoders.encoders import DEFAULT_ENCODER, EncoderModel, load_encoder
from turnout.training.fit.calibrators import fit_platt
from turnout.training.fit.fit import FitSettings, outcome_classes
from turnout.training.fit.out_of_fold import LessonRows, out_of_fold
from turnout.training.fit.rungs import answer_rung
from turnout.training.learn import learn as learning
from turnout.training.learn.ladder import Climbing
from turnout.training.logs.reading import Reading
from turnout.training.policy.ladder import LadderRows
from turnout.training.policy.ladder_path import trace
from turnout.training.progress import Reporter

SETTINGS = FitSettings(form="four_outcomes", c=1.0, dense_scale=1.0)
"""Fixed beforehand, the same for every head."""
QUIET = Reporter(quiet=True)
KEPT = (0.98, 0.99, 0.995)
WORSE = (0.01, 0.02, 0.05)
LADDER = "ladder of three"


@dataclass(frozen=True)
class Three:
    """Rows with the scores of three models."""

    names: tuple[str, str, str]
    read: LadderRead
    table: FeatureTable
    usd: np.ndarray

    def pair(self, weak: int, strong: int) -> np.ndarray:
        """Return (n,) calibrated p that one model is not worse than another, out of fold."""
        score, group = self.read.score, self.read.group
        match = (score[:, weak] >= score[:, strong]).astype(np.int64)
        classes = outcome_classes(match, score[:, strong], score[:, weak])
        told = out_of_fold(LessonRows(self.table, {SETTINGS.form: classes}, match, group), [SETTINGS], n_jobs=1)
        return calibrated(told.full, match, told.fold)

    def rows(self, first: np.ndarray, p_rungs: np.ndarray, columns: list[int]) -> LadderRows:
        """Return the rows as a ladder of some of the models sees them."""
        score, usd = self.read.score[:, columns], self.usd[:, columns]
        match = (score[:, :-1] >= score[:, -1:]).astype(np.int64)
        return LadderRows(first, p_rungs, match, score, usd, self.read.group)


def calibrated(raw: np.ndarray, match: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return (n,) p by Platt's line of the other folds."""
    p = np.empty(raw.size)
    for one in np.unique(fold):
        p[fold == one] = expit(fit_platt(raw[fold != one], match[fold != one])(raw[fold == one]))
    return p


def price_as_asked(given: argparse.Namespace, folder: Path) -> None:
    """Lay a list with the top's price above the shipped one, where the command names one."""
    price = prices.load_prices().price(given.top)
    usd = given.usd or (price.input, price.output)
    thought = price.reasoning_tokens if given.reasoning_tokens is None else given.reasoning_tokens
    own = folder / "prices.toml"
    own.write_text(
        f'[[prices]]\nmodel = "{given.top}"\nsince = 2025-01-01\ninput = {float(usd[0])}\noutput = {float(usd[1])}\n'
        f"reasoning_tokens = {float(thought)}\n"
    )
    os.environ[prices.OWN_LIST] = str(own)


def load(given: argparse.Namespace, encoder: EncoderModel) -> Three:
    """Read, embed and price the rows that have all three."""
    names = ("gpt-4o-mini", "gpt-4o", given.top)
    read = load_ladder([given.pair], names, Reading(), 0.0, LATEST_HARNESS_RULES, QUIET, given.scores)
    if (read.match < 0).any():
        raise SystemExit("some rows lack a model; this bench is of those that have all three")
    prompts = [record.prompt for record in read.records]
    table = embed(prompts, encoder, cache_dir=default_cache_dir(), harness_rules=LATEST_HARNESS_RULES)
    usd = ladder_costs(read.requests, [rung_of(name) for name in names])
    if not isinstance(usd, np.ndarray):
        raise SystemExit(usd.reason)
    return Three(names, read, table, usd)


def ways(three: Three, score: np.ndarray, predictions: dict[str, np.ndarray], told: dict[str, np.ndarray]) -> list[Way]:
    """Return the ladder, the pairs, and RouterBench's routers, all valued by (n, 3) scores."""
    none = np.empty((score.shape[0], 0))
    whole = three.rows(told["ends"], told["between"], [0, 1, 2])
    found = [Way.of_path(LADDER, whole, trace(whole), score)]
    for name, columns in (("ends", [0, 2]), ("upper", [1, 2]), ("lower", [0, 1])):
        rows = three.rows(told[name], none, columns)
        of_pair = " / ".join(three.names[one] for one in columns)
        found.append(Way.of_path(of_pair, rows, trace(rows), score[:, columns]))
    return found + [way(f"{name}, RouterBench's way", said, score, three.usd) for name, said in predictions.items()]


def asked(three: Three) -> dict[str, np.ndarray]:
    """Return the p of each pair, and of the rung between, out of fold."""
    n, match = three.read.group.size, three.read.match[:, 1]
    told = answer_rung(three.table, match, three.read.group, np.arange(n), np.ones(n), SETTINGS)
    between = calibrated(told.raw, match, told.fold)[:, None]
    return {"ends": three.pair(0, 2), "upper": three.pair(1, 2), "lower": three.pair(0, 1), "between": between}


def compare(three: Three, draws: int) -> None:
    """Print what every way costs at kept qualities, its AIQ, and the ladder's difference to the best pair."""
    score, usd = three.read.score, three.usd
    print(f"{score.shape[0]} rows, {np.unique(three.read.group).size} groups")
    for place, name in enumerate(three.names):
        worse, mean, price = (score[:, place] < score[:, -1]).mean(), score[:, place].mean(), usd[:, place].mean() * 1e3
        print(f"{name}: score {mean:.4f}, worse {worse:.3f}, USD per 1,000 {price:.4f}")
    told = asked(three)
    predictions = predicted(three.table, score, three.read.group)
    weights = group_weights(three.read.group, draws, 0)
    by_score = {one.name: one.means(weights) for one in ways(three, score, predictions, told)}
    print_aiq(three, by_score, weights)
    for kept in KEPT:
        print(f"\ncost at {kept:.1%} of the top's quality, all to the top = 1")
        enough = [one for one in range(3) if score[:, one].mean() >= kept * score[:, -1].mean()]
        print(f"  best model alone: {min(float(usd[:, one].mean()) for one in enough) / usd[:, -1].mean():.3f}")
        print_costs(three, by_score, kept * weighted(score[:, -1], weights), weights)
    not_worse = (score >= score[:, -1:]).astype(np.float32)
    by_promise = {one.name: one.means(weights) for one in ways(three, not_worse, predictions, told)}
    for worse in WORSE:
        print(f"\ncost where at most {worse:.1%} of the answers are worse than the top's, all to the top = 1")
        print_costs(three, by_promise, np.full(draws + 1, 1.0 - worse), weights)


def weighted(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (draws,) weighted means."""
    return np.asarray(values.astype(np.float32) @ weights / weights.sum(axis=0))


def print_aiq(three: Three, means: dict[str, tuple[np.ndarray, np.ndarray]], weights: np.ndarray) -> None:
    """Print AIQ over the costs from the cheapest model to the top, with the ladder's difference to the best pair."""
    usd, score = (np.array([weighted(one[:, k], weights) for k in range(3)]) for one in (three.usd, three.read.score))

    def over(cost: np.ndarray, quality: np.ndarray) -> np.ndarray:
        ends = zip(usd[0], usd[2], score[0], strict=True)
        return np.array([aiq(cost[:, at], quality[:, at], *end) for at, end in enumerate(ends)])

    print("\nAIQ over the costs from the cheapest model to the top (score units)")
    print(f"  models alone, mixed by chance: {over(usd, score)[0]:.4f}")
    found = {name: over(*one) for name, one in means.items()}
    for name, values in found.items():
        print("  " + shown(name, values, 4))
    pairs = np.array([found[name] for name in list(found)[1:4]])
    print("  " + shown("ladder - best pair (chosen in each draw)", found[LADDER] - pairs.max(axis=0), 4))


def print_costs(
    three: Three, means: dict[str, tuple[np.ndarray, np.ndarray]], wanted: np.ndarray, weights: np.ndarray
) -> None:
    """Print the lowest cost of each way that keeps what is wanted, over the top's."""
    top = weighted(three.usd[:, -1], weights)
    at = {name: cost_at(*mean, wanted) / top for name, mean in means.items()}
    for name, values in at.items():
        print("  " + shown(name, values))
    pairs = np.array([np.where(np.isfinite(at[name]), at[name], np.inf) for name in list(at)[1:4]])
    print("  " + shown("ladder - best pair (chosen in each draw)", at[LADDER] - pairs.min(axis=0)))


def trained(
    three: Three, encoder: EncoderModel, *, with_ladder: bool, fit: FitSettings | None = None
) -> tuple[float, Climbing | None]:
    """Return the CPU seconds of a training run without its files, and what the ladder added."""
    kept: list[Climbing] = []
    before = learning.climb_ladder

    def keeping(*arguments: object) -> Climbing:
        kept.append(before(*arguments))  # type: ignore[arg-type]
        return kept[-1]

    settings = learning.TrainSettings(
        pair=Pair(strong=three.names[2], weak=three.names[0]),
        models=three.names if with_ladder else (),
        cache_dir=default_cache_dir(),
        fit=fit,
    )
    part = np.full(len(three.read.pair.rows), int(Part.FIT))
    learning.climb_ladder = keeping
    try:
        began = time.process_time()
        learning.learn(
            three.read.pair, part, encoder, settings, "0" * 64, QUIET, ladder=three.read if with_ladder else None
        )
        return time.process_time() - began, kept[0] if kept else None
    finally:
        learning.climb_ladder = before


def time_rungs(folder: Path, prompts: list[Prompt], blocks: int = 20, calls: int = 200) -> None:
    """Print the CPU microseconds of the rungs beside those of the first stage, in turns over the same prompts."""
    bundle = load_bundle(folder)
    assert bundle.rung_heads is not None
    assert bundle.fast_head is not None
    features = [bundle.model.featurize(prompt) for prompt in prompts[:calls]]
    rungs, fast = bundle.rung_heads, bundle.fast_head
    ways_to_ask = {"first stage": lambda one: fast.predict_features(one, 0.5), "rungs between": rungs.p_rungs}
    spent: dict[str, list[float]] = {name: [] for name in ways_to_ask}
    for _ in range(blocks):
        for name, ask in ways_to_ask.items():
            began = time.thread_time_ns()
            for one in features:
                ask(one)
            spent[name].append((time.thread_time_ns() - began) / 1e3 / len(features))
    for name, all_of in spent.items():
        low, median, high = np.quantile(all_of, (0.0, 0.5, 1.0))
        print(f"  {name}: {median:.1f} CPU-us a call, median of {blocks} blocks ({low:.1f} to {high:.1f})")
    print(f"  rungs.onnx: {bundle.manifest.files['rungs.onnx'].size} bytes for {len(bundle.manifest.ladder) - 2}")


def main() -> None:
    """Read, and print what was asked for."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("pair", type=Path)
    arguments.add_argument("--scores", type=Path, required=True)
    arguments.add_argument("--top", default="o3")
    arguments.add_argument("--reasoning-tokens", type=float)
    arguments.add_argument("--usd", type=float, nargs=2)
    arguments.add_argument("--draws", type=int, default=500)
    arguments.add_argument("--redraws", type=int, default=0)
    arguments.add_argument("--redraw-groups", type=int, default=2000)
    arguments.add_argument("--refits", type=int, default=0)
    arguments.add_argument("--refit-rows", type=int, default=4000)
    arguments.add_argument("--notes", type=Path, help="of refits that are made already; more are added")
    arguments.add_argument("--cost", type=int, default=0, metavar="TURNS")
    arguments.add_argument("--bundle", type=Path)
    given = arguments.parse_args()
    encoder = load_encoder(find_encoder(DEFAULT_ENCODER))
    with tempfile.TemporaryDirectory() as folder:
        price_as_asked(given, Path(folder))
        three = load(given, encoder)
        if given.draws:
            compare(three, given.draws)
        if given.bundle:
            print("\nan added rung")
            time_rungs(given.bundle, [record.prompt for record in three.read.records])
        if given.cost:
            print_training(three, encoder, given.cost)
        if given.redraws:
            print_redraws(three, encoder, given.redraws, given.redraw_groups)
        if given.refits:
            print(f"\n{given.refits} draws of {given.refit_rows} rows, fitted anew, one look")
            anew = refitted(three.read, three.table, three.usd, SETTINGS, given.refits, given.refit_rows, given.notes)
            for name, kept in anew.items():
                print(f"  {name}: {kept}")


def print_training(three: Three, encoder: EncoderModel, turns: int) -> None:
    """Print the CPU time of training the pair of the ends, and the ladder, in turns."""
    for turn in range(turns):
        pair, _ = trained(three, encoder, with_ladder=False)
        ladder, _ = trained(three, encoder, with_ladder=True)
        print(f"\ntraining, turn {turn}: pair {pair:.1f} CPU-s, ladder {ladder:.1f}, ratio {ladder / pair:.2f}")


def print_redraws(three: Three, encoder: EncoderModel, draws: int, groups: int) -> None:
    """Print how often promises break where the answers of one training are held fixed."""
    _, climbing = trained(three, encoder, with_ladder=True, fit=SETTINGS)
    assert climbing is not None
    for looks, rows in (("one look", climbing.rows), ("two looks", climbing.looked_at)):
        if rows is not None:
            print(f"\n{draws} draws of {groups} groups, answers held fixed, {looks}")
            for name, kept in held_fixed(rows, draws, groups).items():
                print(f"  {name}: {kept}", flush=True)


if __name__ == "__main__":
    main()
