"""The threshold table, the ceiling that label noise sets, and the drift baseline."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

from tests.training.outcomes import full_outcomes, served
from turnout.serving.router.features import STRUCTURAL
from turnout.training.evaluation.drift_baseline import distribution, drift_baseline
from turnout.training.evaluation.label_noise import label_noise
from turnout.training.evaluation.threshold_table import ServedRows, threshold_table
from turnout.training.policy.policy import DELTA, one_row_a_group


def test_row_of_the_table_is_what_its_threshold_does():
    outcomes = full_outcomes()
    table = threshold_table(outcomes, served(outcomes), seed=4, n_bootstraps=50)
    drawn = one_row_a_group(outcomes.group, 4)
    assert table.n_draws == drawn.size == 200
    for row in range(0, len(table.threshold), 7):
        weak = outcomes.p_match >= table.threshold[row]
        quality = np.where(weak, outcomes.weak_score, outcomes.strong_score).mean() / outcomes.strong_score.mean()
        worse = weak & (outcomes.match == 0)
        events = int(worse[drawn].sum())
        assert table.share_weak[row] == pytest.approx(weak.mean())
        assert table.quality[row] == pytest.approx(quality)
        assert table.quality_low[row] - 1e-12 <= quality <= table.quality_high[row] + 1e-12
        assert table.share_worse[row] == pytest.approx(worse.mean())
        exact = beta.ppf(1 - DELTA, events + 1, drawn.size - events)
        assert table.share_worse_bound[row] == pytest.approx(exact)


def test_table_goes_from_nothing_weak_to_everything_by_way_of_every_policy():
    outcomes = full_outcomes()
    table = threshold_table(outcomes, served(outcomes, 0.93), seed=0, n_bootstraps=0)
    assert table.share_weak == sorted(table.share_weak)
    assert (table.share_weak[0], table.share_weak[-1]) == (0, 1)
    assert table.quality[0] == 1
    assert {0.93, 0.8} <= set(table.threshold)
    assert np.diff(table.share_weak).max() < 0.03
    assert table.quality_low is None


def test_cascade_is_asked_at_every_threshold():
    outcomes = full_outcomes(100)
    asked = []

    def p_match_at(threshold: float) -> np.ndarray:
        asked.append(threshold)
        return np.where(outcomes.is_full, threshold, 0.0)  # what the encoder reads lies on the threshold itself

    table = threshold_table(outcomes, ServedRows(0.9, (), p_match_at), seed=0, n_bootstraps=0)
    assert sorted(asked) == sorted(table.threshold)
    expected = {1.0 if threshold == 0 else float(outcomes.is_full.mean()) for threshold in table.threshold}
    assert set(table.share_weak) == expected


def test_table_without_a_strong_score_has_no_quality():
    outcomes = full_outcomes(60)
    outcomes.strong_score[:] = 0
    assert threshold_table(outcomes, served(outcomes), seed=0, n_bootstraps=5).quality is None


def test_ceiling_is_the_auroc_of_the_truth_against_labels_as_wrong_as_stated():
    rng = np.random.default_rng(1)
    n = 200_000
    match = (rng.random(n) < 0.8).astype(np.int64)
    confidence = np.where(match == 1, 0.95, 0.8)
    truth = np.where(rng.random(n) < confidence, match, 1 - match)
    assert label_noise(match, confidence).auroc_ceiling == pytest.approx(roc_auc_score(match, truth), abs=0.003)


def test_no_ceiling_where_labellers_are_certain_or_unknown():
    match = np.array([0, 1, 1])
    assert label_noise(match, np.ones(3)) is None
    assert label_noise(match, None) is None
    assert label_noise(np.ones(3, dtype=np.int64), np.full(3, 0.9)) is None


def test_drift_baseline_describes_p_match_and_every_measure():
    outcomes = full_outcomes()
    found = drift_baseline(outcomes)
    assert [one.name for one in found] == ["p_match", *STRUCTURAL]
    for one in found:
        assert sum(one.n) == 400
        assert len(one.edges) == len(one.n) + 1
        assert one.quantiles == sorted(one.quantiles)
    assert found[0].mean == pytest.approx(outcomes.p_match.mean())
    assert found[0].quantiles[2] == pytest.approx(np.median(outcomes.p_match))
    assert found[-1].sd == 0
    assert [one.name for one in drift_baseline(replace(outcomes, structural=None))] == ["p_match"]


def test_odd_prompts_count_in_the_outermost_bins():
    values = np.concatenate([np.linspace(0, 1, 999), [1000.0]])
    found = distribution("log_tokens", values)
    assert found.edges[-1] < 1.01
    assert sum(found.n) == 1000
    rare = distribution("log_tools", np.array([0.0] * 999 + [2.0]))
    assert (rare.n[0], rare.n[-1]) == (999, 1)
