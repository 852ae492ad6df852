"""The learning curve that an operator sees before training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.runs import QUIET, TrainingRun
from turnout.serving.bundles.manifest import Pair
from turnout.training.assess.assess import Assessment, assess
from turnout.training.assess.learning_curve import growing_fits
from turnout.training.dataset.costs import request_costs
from turnout.training.dataset.dataset import Dataset, load_dataset
from turnout.training.dataset.splits import split_groups
from turnout.training.encoders.embeddings import FeatureTable, embed
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.offpolicy.savings.machine import Machine


@pytest.fixture(scope="module")
def dataset(training_run: TrainingRun) -> Dataset:
    return load_dataset([training_run.log], Pair(), None, 0.0, QUIET).dataset


@pytest.fixture(scope="module")
def table(dataset: Dataset, encoder: EncoderModel, dense_cache: Path) -> FeatureTable:
    return embed([record.prompt for record in dataset.records], encoder, cache_dir=dense_cache, harness_rules=1)


@pytest.fixture(scope="module")
def found(dataset: Dataset, table: FeatureTable) -> Assessment:
    return assess(dataset, table, Pair(), seed=0, reporter=QUIET)


@pytest.mark.slow
def test_curve_grows_to_the_whole_fit_part_and_ends_at_no_excess(
    dataset: Dataset, table: FeatureTable, found: Assessment
):
    sizes = [point.rows for point in found.curve]
    assert sizes[0] == 500
    assert sizes == sorted(set(sizes))
    assert 0.5 * len(dataset.rows) < sizes[-1] < 0.7 * len(dataset.rows)
    assert found.curve[-1].excess_loss == found.curve[-1].excess_loss_se == 0.0
    assert found.curve[-1].figures["auroc"] > 0.6
    assert found == assess(dataset, table, Pair(), seed=0, reporter=QUIET)


def test_savings_are_those_of_the_ranking_at_99_percent_quality(
    dataset: Dataset, table: FeatureTable, found: Assessment
):
    """Routed by hand: fall through the thresholds while 99 % of the quality is kept, and add up the costs."""
    savings = found.savings
    assert savings is not None
    part = split_groups(dataset.records, dataset.groups.group, 0)
    fits = growing_fits(dataset, table, part, seed=0, reporter=QUIET)
    test, order = fits.test, np.argsort(-fits.log_odds[-1], kind="stable")
    costs = request_costs([dataset.records[row] for row in test], Pair())
    strong, weak = dataset.strong_score[test], dataset.weak_score[test]
    lost = np.cumsum((strong - weak)[order])
    n_weak = max(np.flatnonzero(lost <= 0.01 * strong.sum()) + 1)
    by_hand = 1000.0 * ((costs.strong - costs.weak)[order][:n_weak].sum() / test.size - Machine().usd_per_decision)
    assert savings.saved_usd_per_1k == pytest.approx(by_hand, abs=1000.0 * costs.strong.max() / test.size)
    assert savings.strong_usd_per_1k == pytest.approx(1000.0 * costs.strong.mean())
    low, high = savings.interval
    assert low < savings.saved_usd_per_1k < high < savings.strong_usd_per_1k


def test_model_without_a_price_leaves_the_savings_unsaid_and_says_why(dataset: Dataset, table: FeatureTable):
    found = assess(dataset, table, Pair(strong="house-model"), seed=0, reporter=QUIET)
    assert found.savings is None
    assert "house-model" in found.savings_unknown
