"""How soon the drift metrics see a shift, and how often they see one where there is none, on real rows.

    python -m tests.bench.drift LOG --bundle BUNDLE

Rows that the bundle was not trained on are split by group, half for the baseline, half as live traffic, anew for every
seed. No shift: windows drawn from the live half. A shift: a task that the baseline lacks becomes a share of the traffic
from one request on; counted are requests until the first measure is beyond its limit, looked at every 50.
Calibration: outcomes drawn from `p_match` itself (no window should be beyond), and from a logit moved by 1.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.drift_builders import baseline_of
from turnout.serving.bundles.baseline import Baseline
from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.bundles.limits import (
    MIN_OUTCOMES,
    MIN_ROWS,
    OUT_OF_DISTRIBUTION,
    DriftReading,
    psi_reading,
    share_reading,
)
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.observe.drift.calibration import calibration_readings
from turnout.serving.observe.drift.window import WINDOW, RequestWindow, outcome_sums
from turnout.training.dataset.dataset import load_dataset
from turnout.training.learn.predict import seen_rows
from turnout.training.logs.reading import Reading
from turnout.training.progress import Reporter

LOOK_EVERY = 50
LONGEST = 5000
SHARES = (0.1, 0.25, 0.5, 1.0)
MIN_TASK_ROWS = 60


@dataclass(frozen=True)
class Rows:
    """What the model said of rows: (n, measures) values in the order of `Baseline.bins`, group and task."""

    values: np.ndarray
    group: np.ndarray
    task: np.ndarray

    def take(self, rows: np.ndarray) -> Rows:
        """Return those rows only."""
        return Rows(self.values[rows], self.group[rows], self.task[rows])


def main() -> None:
    """Simulate and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("log", type=Path)
    arguments.add_argument("--bundle", type=Path)
    arguments.add_argument("--seeds", type=int, default=20)
    arguments.add_argument("--windows", type=int, default=2000)
    given = arguments.parse_args()
    rows = rows_of(given.log, find_bundle(given.bundle))
    print(f"{len(rows.group)} rows that the bundle was not trained on, {np.unique(rows.group).size} groups")
    for size in (MIN_ROWS, WINDOW):
        beyond = Counter(false_alarms(rows, size, given.windows, given.seeds))
        print(f"no shift, windows of {size}: of {given.windows}, beyond by measure: {dict(beyond) or 'none'}")
    print("requests until a measure is beyond: median (worst) of the seeds")
    print(f"{'task':24s} {'rows':>5s} " + " ".join(f"{share:>14.0%}" for share in SHARES))
    names, counts = np.unique(rows.task, return_counts=True)
    for name, n in sorted(zip(names, counts, strict=True), key=lambda one: -one[1]):
        if n >= MIN_TASK_ROWS:
            cells = [delays(rows, name, share, given.seeds) for share in SHARES]
            print(f"{name:24s} {n:5d} " + " ".join(f"{np.median(one):7.0f} ({max(one):5.0f})" for one in cells))
    calibration(rows.values[:, 0], given.windows)


def rows_of(log: Path, folder: Path) -> Rows:
    """Return the rows of a log that the bundle has not seen, as its model measures them."""
    bundle = load_bundle(folder)
    data = load_dataset([log], bundle.manifest.pair, Reading(), 0.0, Reporter(quiet=True)).dataset
    fresh = np.flatnonzero(~seen_rows(bundle, data))
    threshold = bundle.manifest.policy("").threshold
    values = []
    for row in fresh:
        features = bundle.model.featurize(data.rows[row].record.prompt)
        said = bundle.model.predict_features(features, threshold)
        values.append([said.p_match, *features.structural, said.is_out_of_distribution])
    task = np.array([data.rows[row].record.task or "" for row in fresh])
    return Rows(np.array(values, dtype=np.float64), data.groups.group[fresh], task)


def halves(rows: Rows, seed: int) -> tuple[Rows, Rows]:
    """Return two halves of the groups."""
    groups = np.random.default_rng(seed).permutation(np.unique(rows.group))
    is_first = np.isin(rows.group, groups[: groups.size // 2])
    return rows.take(np.flatnonzero(is_first)), rows.take(np.flatnonzero(~is_first))


def baseline_from(rows: Rows) -> Baseline:
    """Return the baseline of these rows, as a bundle has it."""
    return baseline_of(rows.values[:, 0], rows.values[:, 1:-1], float(rows.values[:, -1].mean()))


def readings(baseline: Baseline, counts: list[list[int]]) -> Iterator[DriftReading]:
    """Return the reading of each measure."""
    for bins, found in zip(baseline.bins, counts, strict=True):
        read = share_reading if bins.name == OUT_OF_DISTRIBUTION else psi_reading
        yield read(bins.name, bins.n, found)


def false_alarms(rows: Rows, size: int, n_windows: int, seeds: int) -> Iterator[str]:
    """Return the measures that are beyond without a shift, window by window."""
    for seed in range(seeds):
        reference, live = halves(rows, seed)
        baseline, rng = baseline_from(reference), np.random.default_rng(seed)
        for _ in range(n_windows // seeds):
            window = RequestWindow(baseline)
            window.add(live.values[rng.permutation(len(live.group))[:size]])
            yield from (one.measure for one in readings(baseline, window.counts()) if one.is_beyond)


def delays(rows: Rows, task: str, share: float, seeds: int) -> list[float]:
    """Return, for each seed, the requests until a share of the new task is seen; infinity for never."""
    found = []
    usual, new = rows.take(np.flatnonzero(rows.task != task)), rows.take(np.flatnonzero(rows.task == task))
    for seed in range(seeds):
        reference, live = halves(usual, seed)
        baseline, rng = baseline_from(reference), np.random.default_rng(seed)
        window = RequestWindow(baseline)
        window.add(live.values[rng.integers(len(live.group), size=WINDOW)])
        found.append(_delay(window, live, new, share, rng))
    return found


def _delay(window: RequestWindow, live: Rows, new: Rows, share: float, rng: np.random.Generator) -> float:
    for n_requests in range(LOOK_EVERY, LONGEST + 1, LOOK_EVERY):
        is_new = rng.random(LOOK_EVERY) < share
        usual = live.values[rng.integers(len(live.group), size=LOOK_EVERY)]
        other = new.values[rng.integers(len(new.group), size=LOOK_EVERY)]
        window.add(np.where(is_new[:, None], other, usual))
        if any(one.is_beyond for one in readings(window.baseline, window.counts())):
            return n_requests
    return float("inf")


def calibration(p_match: np.ndarray, n_windows: int) -> None:
    """Print how often outcomes that keep to `p_match`, and those that do not, are beyond."""
    rng = np.random.default_rng(0)
    moved = 1 / (1 + np.exp(1 - np.log(p_match / (1 - p_match))))
    for name, truth in (("as p_match says", p_match), ("a logit lower by 1", moved)):
        for size in (MIN_OUTCOMES, WINDOW):
            beyond: Counter[str] = Counter()
            for _ in range(n_windows):
                drawn = rng.integers(p_match.size, size=size)
                match = (rng.random(size) < truth[drawn]).astype(np.float64)
                sums = outcome_sums(p_match[drawn], match).tolist()
                beyond.update(one.measure for one in calibration_readings(sums) if one.is_beyond)
            shares = {measure: f"{count / n_windows:.2%}" for measure, count in beyond.items()}
            print(f"outcomes {name}, windows of {size}: beyond {shares or 'none'}")


if __name__ == "__main__":
    sys.exit(main())
