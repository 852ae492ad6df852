"""A training run on a synthetic log, made once and read by many tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.log_builders import gateway_row
from training.encoders import EncoderModel
from training.progress import Reporter
from training.sample import STRONG, write_sample
from training.train import Trained, TrainSettings, train

SEED = 3
QUIET = Reporter(quiet=True)


@dataclass(frozen=True)
class TrainingRun:
    """A bundle with the log it was trained on; neither is to be written to."""

    log: Path
    bundle: Path
    trained: Trained
    settings: TrainSettings


def run_training(folder: Path, encoder: EncoderModel, n_rows: int) -> TrainingRun:
    """Train on `n_rows` synthetic rows, one row that can't be read and one that has no label."""
    log = folder / "log.jsonl"
    write_sample(log, n_rows, seed=1)
    only_strong = gateway_row("Who asked the other one?", responses={STRONG: {"content": "Nobody."}})
    with log.open("ab") as file:
        file.write(b'{"request": {"messages": [\n' + json.dumps(only_strong).encode() + b"\n")
    settings = TrainSettings(seed=SEED, cache_dir=folder / "cache", learning_curve=True)
    trained = train([log], folder / "bundle", encoder, settings, QUIET)
    return TrainingRun(log, folder / "bundle", trained, settings)
