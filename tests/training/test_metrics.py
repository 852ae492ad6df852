from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from turnout.training.evaluation import metrics
from turnout.training.evaluation.metrics import QualityCurve, Ranking, SourceRanking

SHARES = st.integers(0, 4).map(lambda value: value / 4)
ROW = st.tuples(SHARES, st.integers(0, 1), SHARES, SHARES, st.integers(0, 3))
ROWS = st.lists(ROW, min_size=1, max_size=30)


def columns(rows):
    p_match, match, strong, weak, weights = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    return p_match, match, strong, weak, weights


def curve_of(p_match, strong, weak, weights=None) -> QualityCurve:
    arrays = [np.asarray(column, dtype=np.float64) for column in (p_match, strong, weak)]
    return metrics.quality_curve(Ranking.of(arrays[0]), arrays[1], arrays[2], weights)


def every_metric(p_match, match, strong, weak, weights=None) -> list[float | None]:
    ranking, curve = Ranking.of(p_match), curve_of(p_match, strong, weak, weights)
    source = ["even" if value in {0.0, 0.5, 1.0} else "odd" for value in p_match]
    return [
        metrics.apgr(curve),
        metrics.cpt(curve, 0.5),
        metrics.cpt(curve, 0.8),
        metrics.share_at_quality(curve, 0.99),
        metrics.quality_at_share(curve, 0.3),
        metrics.auroc(ranking, match, weights),
        metrics.auroc_within_source(SourceRanking.of(p_match, source), match, weights).auroc,
        metrics.ece(ranking, p_match, match, weights),
        metrics.brier(p_match, match, weights),
        metrics.log_loss(p_match, match, weights),
    ]


def approx(values):
    return [value if value is None else pytest.approx(value, abs=1e-9) for value in values]


# Four rows, lowest p_match first: the strong model gains 1, 0, 1, 0. Mean weak 0.25, mean strong 0.75.
BY_HAND = ([0.1, 0.2, 0.3, 0.4], [1, 0, 1, 1], [0, 0, 0, 1])


def test_curve_by_hand():
    curve = curve_of(*BY_HAND)
    np.testing.assert_allclose(curve.strong_share, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curve.quality, [0.25, 0.5, 0.5, 0.75, 0.75])
    np.testing.assert_allclose(metrics.pgr(curve, np.array([0, 0.25, 0.5, 0.75, 1])), [0, 0.5, 0.5, 1, 1])


def test_apgr_by_hand():
    # trapezoids of PGR over the quarters: (0 + .5) / 2, (.5 + .5) / 2, (.5 + 1) / 2, (1 + 1) / 2, each a quarter wide
    assert metrics.apgr(curve_of(*BY_HAND)) == pytest.approx((0.25 + 0.5 + 0.75 + 1) / 4)


def test_cpt_by_hand():
    curve = curve_of(*BY_HAND)
    assert metrics.cpt(curve, 0.5) == pytest.approx(0.25)
    assert metrics.cpt(curve, 0.8) == pytest.approx(0.5 + 0.25 * (0.8 - 0.5) / 0.5)
    assert metrics.cpt(curve, 0) == 0


def test_cpt_is_where_pgr_stays_not_where_it_first_arrives():
    # PGR at the quarters: 0, 1, 0, 1, 1
    curve = curve_of([0.1, 0.2, 0.3, 0.4], [1, 0, 1, 1], [0, 1, 0, 1])
    assert metrics.cpt(curve, 0.5) == pytest.approx(0.5 + 0.25 / 2)


def test_ties_by_hand():
    # the two lowest rows are tied, one gains: after one row the mean over the orders is half of that gain
    curve = curve_of([0.2, 0.2, 0.3, 0.4], [1, 0, 1, 1], [0, 0, 0, 1])
    assert curve.at(np.array([0.25]))[0] == pytest.approx((0.5 + 0.25) / 2)


def test_share_at_quality_by_hand():
    curve = curve_of(*BY_HAND)
    assert metrics.share_at_quality(curve, 1.0) == pytest.approx(0.25)
    assert metrics.share_at_quality(curve, 0.6 / 0.75) == pytest.approx(1 - (0.5 + 0.25 * (0.6 - 0.5) / 0.25))
    assert metrics.share_at_quality(curve, 1 / 3) == 1


def test_quality_at_share_by_hand():
    curve = curve_of(*BY_HAND)
    assert metrics.quality_at_share(curve, 0.5) == pytest.approx(0.5 / 0.75)
    assert metrics.quality_at_share(curve, 0.0) == pytest.approx(1)


@pytest.mark.parametrize("weak", [[1, 1, 1, 0], [1, 1, 1, 1]])
def test_ratios_over_the_gap_are_undefined_where_the_weak_model_is_as_good(weak):
    curve = curve_of([0.1, 0.2, 0.3, 0.4], [1, 0, 1, 1], weak)
    assert metrics.pgr(curve, np.array([0.5])) is None
    assert metrics.apgr(curve) is None
    assert metrics.cpt(curve, 0.5) is None
    assert metrics.share_at_quality(curve, 0.99) == 1


def test_a_gap_of_exactly_one_point_is_defined():
    assert metrics.apgr(curve_of(np.arange(100) / 100, np.ones(100), np.arange(100) > 0)) is not None


def test_shares_of_no_quality_are_undefined():
    curve = curve_of([0.1, 0.2], [0, 0], [0, 0])
    assert metrics.share_at_quality(curve, 0.99) is None
    assert metrics.quality_at_share(curve, 0.5) is None


def test_random_ranking_has_half_the_area():
    curve = curve_of(np.full(7, 0.3), np.ones(7), [0, 1, 0, 1, 1, 0, 1])
    assert metrics.apgr(curve) == pytest.approx(0.5)
    assert metrics.cpt(curve, 0.8) == pytest.approx(0.8)


@given(st.lists(st.tuples(st.sampled_from([0.2, 0.7]), SHARES, SHARES), min_size=1, max_size=5))
def test_ties_equal_the_mean_over_explicit_orders(rows):
    p_match, strong, weak = (np.array(column) for column in zip(*rows, strict=True))
    orders = [order for order in permutations(range(len(rows))) if np.all(np.diff(p_match[list(order)]) >= 0)]
    quality = [
        [np.mean(np.where(np.arange(len(rows)) < n_strong, strong[list(order)], weak[list(order)])) for order in orders]
        for n_strong in range(len(rows) + 1)
    ]
    found = curve_of(p_match, strong, weak).at(np.arange(len(rows) + 1) / len(rows))
    np.testing.assert_allclose(found, np.mean(quality, axis=1), atol=1e-12)


@given(ROWS, st.randoms(use_true_random=False))
def test_order_of_the_rows_changes_nothing(rows, random):
    shuffled = random.sample(rows, len(rows))
    assert every_metric(*columns(shuffled)[:4]) == approx(every_metric(*columns(rows)[:4]))


@given(ROWS.filter(lambda rows: any(row[-1] for row in rows)))
def test_weight_is_repetition(rows):
    p_match, match, strong, weak, weights = columns(rows)
    repeated = [np.repeat(column, weights.astype(int)) for column in (p_match, match, strong, weak)]
    assert every_metric(p_match, match, strong, weak, weights) == approx(every_metric(*repeated))


@given(ROWS)
def test_monotone_transform_leaves_rank_metrics(rows):
    p_match, match, strong, weak, _ = columns(rows)
    before, after = (every_metric(p, match, strong, weak) for p in (p_match, 1 / (1 + np.exp(-3 * p_match))))
    assert after[:6] == approx(before[:6])


@given(ROWS)
def test_auroc_is_scikit_learns(rows):
    p_match, match, _, _, weights = columns(rows)
    found = metrics.auroc(Ranking.of(p_match), match, weights)
    if len(np.unique(match[weights > 0])) < 2:
        assert found is None
    else:
        assert found == pytest.approx(roc_auc_score(match, p_match, sample_weight=weights))


@given(ROWS.filter(lambda rows: any(row[-1] for row in rows)))
def test_brier_and_log_loss_are_scikit_learns(rows):
    p_match, match, _, _, weights = columns(rows)
    clipped = np.clip(p_match, 1e-6, 1 - 1e-6)
    expected = brier_score_loss(match, p_match, sample_weight=weights, pos_label=1)
    assert metrics.brier(p_match, match, weights) == pytest.approx(expected)
    expected = log_loss(match, clipped, sample_weight=weights, labels=[0, 1])
    assert metrics.log_loss(p_match, match, weights) == pytest.approx(expected)


def test_auroc_within_source_weighs_by_rows_and_leaves_out_small_and_one_sided_sources():
    rng = np.random.default_rng(5)
    source = ["large"] * 60 + ["small"] * 30 + ["tiny"] * 19 + ["one-sided"] * 40
    p_match = rng.random(149).round(1)
    match = np.concatenate([rng.integers(0, 2, 109), np.ones(40, dtype=int)])
    expected = (60 * roc_auc_score(match[:60], p_match[:60]) + 30 * roc_auc_score(match[60:90], p_match[60:90])) / 90
    found = metrics.auroc_within_source(SourceRanking.of(p_match, source), match)
    assert found.auroc == pytest.approx(expected)
    assert found.n_left_out == 2


def test_auroc_within_source_is_undefined_without_a_source_large_enough():
    found = metrics.auroc_within_source(SourceRanking.of(np.array([0.1, 0.9]), ["a", "b"]), np.array([0.0, 1.0]))
    assert found == metrics.WithinSource(None, 2)


def test_ece_by_hand():
    # 30 rows without ties are 15 bins of two: bin i holds labels (0, 1) and p_match around (2 i + 0.5) / 30
    p_match = np.arange(30) / 30
    match = np.tile([0.0, 1.0], 15)
    expected = np.mean([abs(0.5 - (2 * i + 0.5) / 30) for i in range(15)])
    assert metrics.ece(Ranking.of(p_match), p_match, match) == pytest.approx(expected)


def test_ece_of_a_constant_is_its_distance_from_the_match_rate():
    match = np.array([1.0] * 7 + [0.0] * 3)
    p_match = np.full(10, 0.6)
    assert metrics.ece(Ranking.of(p_match), p_match, match) == pytest.approx(0.1)


def test_calibration_bins_hold_equal_mass_and_every_row():
    rng = np.random.default_rng(1)
    p_match, match = rng.random(100).round(2), rng.integers(0, 2, 100).astype(float)
    bins = metrics.calibration_bins(Ranking.of(p_match), p_match, match)
    np.testing.assert_allclose(bins.n, 100 / 15)
    assert float(bins.n @ bins.match_rate) == pytest.approx(match.sum())
    assert np.all(np.diff(bins.p_match) >= 0)


@pytest.mark.parametrize(("n", "expected"), [(600, 0.04), (4000, 0.015), (20_000, 0.0065)])
def test_ece_floor_is_what_a_perfect_router_shows(n, expected):
    rng = np.random.default_rng(2)
    p_match = rng.beta(7, 1.5, n)
    floor = metrics.ece_floor(p_match, n_draws=60)
    assert floor == pytest.approx(expected, rel=0.25)
    perfect = [metrics.ece(Ranking.of(p_match), p_match, (rng.random(n) < p_match).astype(float)) for _ in range(20)]
    assert floor == pytest.approx(np.mean(perfect), rel=0.15)


def test_ece_floor_does_not_depend_on_the_order_of_the_rows():
    p_match = np.random.default_rng(3).random(50)
    assert metrics.ece_floor(p_match) == metrics.ece_floor(p_match[::-1])


def test_brier_parts_add_up_where_bins_hold_one_p_match_each():
    p_match = np.repeat(np.arange(1, 16) / 16, 4)
    match = np.random.default_rng(4).integers(0, 2, 60).astype(float)
    parts = metrics.brier_parts(metrics.calibration_bins(Ranking.of(p_match), p_match, match))
    assert parts.reliability - parts.resolution + parts.uncertainty == pytest.approx(metrics.brier(p_match, match))


@pytest.mark.parametrize(("k", "n"), [(0, 5), (3, 10), (10, 10), (870, 1000)])
def test_wilson_interval_is_scipys(k, n):
    low, high = metrics.wilson_interval(np.array([k / n]), np.array([float(n)]))
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high))
