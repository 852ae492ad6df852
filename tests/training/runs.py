"""A training run on a synthetic log, made once and read by many tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.log_builders import gateway_row
from turnout.training.dataset.dataset import Dataset
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.evaluation.evaluate import evaluate, measure, paired_difference
from turnout.training.evaluation.two_looks import judge_two_looks
from turnout.training.fit import select
from turnout.training.learn import flow
from turnout.training.learn.settings import TrainSettings
from turnout.training.learn.train import Trained, train
from turnout.training.progress import Reporter
from turnout.training.report import draw
from turnout.training.report.style import SavedFigure
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


N_BOOTSTRAPS = 100
"""Of the intervals of every run in this process, a tenth of those of a real one: tests look at what lies inside."""


@contextmanager
def fewer_bootstraps(n: int = N_BOOTSTRAPS) -> Iterator[None]:
    """Measure with so many draws where a test names no number."""
    with pytest.MonkeyPatch.context() as patch:
        for measuring in (evaluate, measure, paired_difference, judge_two_looks):
            patch.setitem(measuring.__kwdefaults__, "n_bootstraps", n)
        yield


@contextmanager
def fewer_candidates() -> Iterator[None]:
    """Choose among 8 settings instead of 24: two forms, two C and two scales."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "C_GRID", (0.5, 1.0))
        patch.setattr(select, "DENSE_GRID", (1.0, 2.0))
        yield


@contextmanager
def blank_figures() -> Iterator[None]:
    """Draw nothing in reports, where only words are read: axes alone take half a second a report."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in vars(draw) if name.startswith("draw_") and name != "draw_all"]:
            patch.setattr(draw, name, lambda *_: None)
        patch.setattr(draw, "save", lambda *_: SavedFigure(b"", b"<svg/>", "<svg/>"))
        yield


@contextmanager
def fewer_parity_rows(n_rows: int) -> Iterator[None]:
    """Compare graph and Python path on so many rows of a run, not on 500: tests/training/test_export.py does that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "PARITY_ROWS", n_rows)
        yield


@contextmanager
def light_run(n_bootstraps: int = 20) -> Iterator[None]:
    """Compare few rows of graph and Python path, and draw neither figures nor many samples, where none is looked at."""
    with fewer_parity_rows(40), blank_figures(), fewer_bootstraps(n_bootstraps):
        yield


def run_training(folder: Path, encoder: EncoderModel, n_rows: int, cache: Path) -> TrainingRun:
    """Train on `n_rows` synthetic rows, one row that can't be read and one that has no label."""
    log = folder / "log.jsonl"
    write_sample(log, n_rows, seed=1)
    only_strong = gateway_row("Who asked the other one?", responses={STRONG: {"content": "Nobody."}})
    with log.open("ab") as file:
        file.write(b'{"request": {"messages": [\n' + json.dumps(only_strong).encode() + b"\n")
    settings = TrainSettings(seed=SEED, cache_dir=cache, learning_curve=True)
    with fewer_candidates(), fewer_parity_rows(150):
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
