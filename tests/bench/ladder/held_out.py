"""A ladder on rows that it has never seen: trained on half of the groups, recalibrated on a quarter, both measured on
the last quarter, as `turnout evaluate` does.

    python -m tests.bench.ladder.held_out PAIR.parquet --scores TABLE.parquet --top o3
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.manifest import Pair
from turnout.serving.bundles.registry import find_encoder
from turnout.serving.router.harness import LATEST_HARNESS_RULES
from turnout.training.dataset.ladder import load_ladder
from turnout.training.encoders.embeddings import default_cache_dir
from turnout.training.encoders.encoders import DEFAULT_ENCODER, load_encoder
from turnout.training.evaluation.ladder import LadderFigures
from turnout.training.fit.fit import FitSettings
from turnout.training.learn.evaluating import evaluate_bundle
from turnout.training.learn.recalibrate import RecalibrateSettings, recalibrate
from turnout.training.learn.settings import TrainSettings
from turnout.training.learn.train import train
from turnout.training.logs.reading import Reading
from turnout.training.progress import Reporter

QUIET = Reporter(quiet=True)
QUARTERS = {"fit": (0, 1), "again": (2,), "test": (3,)}


def divided(pair: Path, scores: Path, names: tuple[str, ...], folder: Path) -> None:
    """Write the rows of each part, whole groups by chance."""
    read = load_ladder([pair], names, Reading(), 0.0, 0, QUIET, scores)
    part = np.random.default_rng(1).choice(4, read.groups.n_groups, p=np.full(4, 0.25))[read.group]
    line = np.array([record.line for record in read.records])
    table = pq.read_table(pair)
    for name, quarters in QUARTERS.items():
        pq.write_table(table.take(np.sort(line[np.isin(part, quarters)]) - 1), folder / f"{name}.parquet")


def show(title: str, figures: LadderFigures) -> None:
    """Print the rungs' figures, and what each promise does."""
    print(f"\n{title}: {figures.n} rows, {figures.n_groups} groups")
    for one in figures.rungs[:-1]:
        told = ", ".join(f"{name} {one.figures[name]:.4f} {one.intervals.get(name)}" for name in ("auroc", "ece"))
        print(f"  {one.name}: not worse on {one.match_rate:.4f}; {told}; floor {one.figures['ece_floor']:.4f}")
    for policy in figures.policies:
        if policy.policy.startswith("max_worse="):
            shares = " / ".join(f"{share:.3f}" for share in policy.shares)
            worse = f"{policy.worse:.4f} {policy.worse_interval}"
            print(f"  {policy.policy}, {policy.looks} looks: {shares}; worse {worse}; cost {policy.cost}", flush=True)


def main() -> None:
    """Train, recalibrate, and measure both."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("pair", type=Path)
    arguments.add_argument("--scores", type=Path, required=True)
    arguments.add_argument("--top", default="o3")
    given = arguments.parse_args()
    names, encoder = ("gpt-4o-mini", "gpt-4o", given.top), load_encoder(find_encoder(DEFAULT_ENCODER))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        divided(given.pair, given.scores, names, folder)
        settings = TrainSettings(
            pair=Pair(strong=names[-1], weak=names[0]),
            models=names,
            model_scores=given.scores,
            cache_dir=default_cache_dir(),
            fit=FitSettings(form="four_outcomes", c=1.0, dense_scale=1.0),
        )
        train([folder / "fit.parquet"], folder / "trained", encoder, settings, QUIET)
        again = RecalibrateSettings(0, cache_dir=default_cache_dir(), model_scores=given.scores)
        trained = load_bundle(folder / "trained")
        recalibrate(trained, [folder / "again.parquet"], folder / "recalibrated", encoder, again, QUIET)
        test = load_ladder([folder / "test.parquet"], names, Reading(), 0.0, LATEST_HARNESS_RULES, QUIET, given.scores)
        for bundle in (trained, load_bundle(folder / "recalibrated")):
            found = evaluate_bundle(
                bundle,
                test,
                bundle.manifest.policy(""),
                early_exit=True,
                include_seen=False,
                seed=0,
                reporter=QUIET,
            )
            assert isinstance(found.ladder, LadderFigures)
            show(bundle.folder.name, found.ladder)


if __name__ == "__main__":
    main()
