"""The learning curve that an operator sees before training."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.bundle import Pair
from training.assess import assess
from training.dataset import Dataset, load_dataset
from training.embeddings import embed
from training.encoders import EncoderModel
from training.progress import Reporter
from training.sample import write_sample

QUIET = Reporter(quiet=True)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    log: Path = tmp_path_factory.mktemp("assess") / "log.jsonl"
    write_sample(log, 1600, 5)
    return load_dataset([log], Pair(), None, 0.0, QUIET).dataset


def test_curve_grows_to_the_whole_fit_part_and_ends_at_no_excess(dataset: Dataset, encoder: EncoderModel):
    table = embed([record.prompt for record in dataset.records], encoder, cache_dir=None)
    found = assess(dataset, table, seed=0, reporter=QUIET)
    sizes = [point.rows for point in found.curve]
    assert sizes[0] == 500
    assert sizes == sorted(set(sizes))
    assert 0.5 * len(dataset.rows) < sizes[-1] < 0.7 * len(dataset.rows)
    assert found.curve[-1].excess_loss == found.curve[-1].excess_loss_se == 0.0
    assert found.curve[-1].figures["auroc"] > 0.6
    assert found == assess(dataset, table, seed=0, reporter=QUIET)
