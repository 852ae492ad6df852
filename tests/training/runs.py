"""A training run on a synthetic log, made once and read by many tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.log_builders import gateway_row
from turnout.training.dataset.dataset import Dataset
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.learn.learn import TrainSettings
from turnout.training.learn.train import Trained, train
from turnout.training.progress import Reporter
from turnout.training.sample.sample import STRONG, write_sample

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


def with_shuffled_labels(log: Path, data: Dataset, rows: np.ndarray, out: Path) -> Path:
    """Write the log again, the scores of these rows passed round among them."""
    lines = [json.loads(line) for line in log.read_bytes().splitlines()[:1500]]
    by_id = {line["id"]: line for line in lines}
    chosen = [by_id[data.rows[row].record.id] for row in rows]
    scores = [[answer["score"] for answer in line["responses"].values()] for line in chosen]
    for line, index in zip(chosen, np.random.default_rng(0).permutation(len(chosen)), strict=True):
        for answer, score in zip(line["responses"].values(), scores[index], strict=True):
            answer["score"] = score
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return out
