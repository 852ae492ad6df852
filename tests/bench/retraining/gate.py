"""How often the gate errs: models fitted on real rows, one 0.02 nats better than the other, tested again and again.

    python -m tests.bench.retraining.gate SHARED_DATA [--rows 1000] [--tries 100]

Half of the groups fit a sound model and three spoilt ones: labels shuffled, every Croatian, Serbian and Bosnian row
(10 % of all) left out, probabilities too sure of themselves. The other half is the population: what a model loses on
all of it is its true log loss. Each spoilt model is moved in log-odds from the sound one, or further on, to where it
loses 0.02 more; each try draws groups for a test of so many rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit

from tests.bench.retraining.rows import SETTINGS, RealRows, read_rows
from tests.training.gating import Population, at_distance, n_promoted
from turnout.training.evaluation.metrics import log_loss
from turnout.training.fit.calibrators import fit_platt
from turnout.training.fit.fit import fit_head, fit_scaler
from turnout.training.progress import Reporter

CALIBRATE_SHARE = 0.2
LOST = ("hr", "sr", "bs")


@dataclass(frozen=True)
class Duel:
    """How often a challenger passed, and the log losses of the two on the whole population."""

    way: str
    rows: int
    tries: int
    worse_promoted: int
    better_promoted: int
    log_loss: float
    worse_log_loss: float


def duels(real: RealRows, sizes: list[int], tries: int) -> Iterator[Duel]:
    """Yield both duels of each spoilt model at each test size."""
    rng = np.random.default_rng(0)
    group = real.data.groups.group
    is_fit = rng.permutation(group.max() + 1)[group] % 2 == 0
    held = np.flatnonzero(~is_fit)
    language = np.array([record.language or "" for record in real.data.records])
    population = Population(
        match=real.data.match[held],
        strong_score=real.data.strong_score[held],
        weak_score=real.data.weak_score[held],
        group=np.unique(group[held], return_inverse=True)[1],
        task=[real.data.records[row].task or "" for row in held],
        language=language[held].tolist(),
    )
    learn = rng.permutation(np.flatnonzero(is_fit))  # the file is sorted by source
    sound = _said(real, learn, held)
    shuffled = rng.permutation(real.data.match.size)
    spoilt = {
        "shuffled labels": _said(real, learn, held, labels=shuffled),
        "a language lost": _said(real, learn[~np.isin(language[learn], LOST)], held),
        "broken calibration": expit(1.8 * sound + 0.4),
    }
    p_match = expit(sound)
    for way, towards in spoilt.items():
        p_worse = at_distance(p_match, towards if way == "broken calibration" else expit(towards), population.match)
        for rows in sizes:
            yield Duel(
                way=way,
                rows=rows,
                tries=tries,
                worse_promoted=n_promoted(population, p_match, p_worse, n_rows=rows, tries=tries),
                better_promoted=n_promoted(population, p_worse, p_match, n_rows=rows, tries=tries),
                log_loss=log_loss(p_match, population.match),
                worse_log_loss=log_loss(p_worse, population.match),
            )


def _said(real: RealRows, learn: np.ndarray, held: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """Return the calibrated log-odds that a fit on `learn` gives `held`; labels may be those of other rows."""
    taken = learn if labels is None else labels[learn]
    n_fit = int((1 - CALIBRATE_SHARE) * learn.size)
    table = real.table.take(learn[:n_fit])
    scaler = fit_scaler(table, SETTINGS)
    head = fit_head(scaler, table, real.outcome[taken[:n_fit]], SETTINGS, with_dense=True)
    platt = fit_platt(head.log_odds(scaler, real.table.take(learn[n_fit:])), real.data.match[taken[n_fit:]])
    return platt(head.log_odds(scaler, real.table.take(held)))


def main() -> None:
    """Print a line a duel."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000])
    parser.add_argument("--tries", type=int, default=100)
    options = parser.parse_args()
    real = read_rows(options.folder, Reporter())
    print("| spoilt by | test rows | log loss | worse promoted | better promoted |\n| --- | --- | --- | --- | --- |")
    for one in duels(real, options.rows, options.tries):
        print(
            f"| {one.way} | {one.rows} | {one.log_loss:.4f} / {one.worse_log_loss:.4f} | "
            f"{one.worse_promoted} of {one.tries} | {one.better_promoted} of {one.tries} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
