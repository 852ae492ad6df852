"""Retraining from the log of a real server that keeps no text: a better router, and not a word of any prompt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from serving.models.entry import Entry
from tests.training.explored import explored_log
from tests.training.runs import QUIET, TrainingRun
from tests.training.test_retrain import SETTINGS, later_rows, registry
from training.encoders import EncoderModel
from training.retrain.run import Retrained, retrain

N_ROWS, BOTH = 1000, 0.9


@dataclass
class Story:
    """A registry whose champion served traffic in digest mode, and what retraining from that log made of it."""

    entry: Entry
    champion: str
    rows: list[dict]
    log: list[Path]
    kept: Path
    done: Retrained


@pytest.fixture(scope="module")
def story(training_run: TrainingRun, encoder: EncoderModel, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("digests")
    entry = registry(folder / "models", training_run)
    champion = entry.current()
    rows = later_rows(N_ROWS, 81, first_day=0)
    log = explored_log(entry.folder / champion, folder, rows, both=BOTH)
    kept = folder / "kept.parquet"
    done = retrain(log, entry, kept, encoder, SETTINGS, QUIET)
    return Story(entry, champion, rows, log, kept, done)


def test_x(story):
    print(story.done)
