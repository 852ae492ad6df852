"""Policies keep what they promise, on rows with a known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binomtest

from tests.training.routers import draw_rows, plain_router
from training.policy import (
    DEFAULT_POLICY,
    DELTA,
    MAX_STRONG_SHARE_TARGETS,
    MAX_WORSE_TARGETS,
    PolicyRows,
    binomial_upper_bound,
    max_worse,
    solve_policies,
)

BAND = 0.8


def solved(rows: PolicyRows, seed: int = 0) -> dict:
    return {policy.name: policy for policy in solve_policies(plain_router(BAND), rows, seed)}


def goes_weak(rows: PolicyRows, threshold: float) -> np.ndarray:
    """Compute the cascade's route again, in words of its own."""
    odds = math.log(threshold / (1 - threshold))
    answer = np.where(abs(rows.heads.fast - odds) <= BAND, rows.heads.full, rows.heads.fast)
    return 1 / (1 + np.exp(-answer)) >= threshold


@given(n=st.integers(1, 5000), share=st.floats(0, 1), delta=st.sampled_from([0.01, 0.05, 0.1, 0.3]))
@settings(max_examples=200)
def test_bound_is_that_of_clopper_and_pearson(n: int, share: float, delta: float):
    events = int(share * n)
    exact = binomtest(events, n, alternative="less").proportion_ci(1 - delta, method="exact").high
    assert binomial_upper_bound(events, n, delta) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("n", [1, 10, 229, 4150])
def test_bound_without_events_is_the_hand_value(n: int):
    assert binomial_upper_bound(0, n, 0.1) == pytest.approx(1 - 0.1 ** (1 / n), rel=1e-12)


@pytest.mark.parametrize(("events", "draws"), [(0, 0), (5, 5)])
def test_bound_is_one_where_nothing_is_known(events: int, draws: int):
    assert binomial_upper_bound(events, draws, 0.1) == 1.0


def test_table_holds_every_rule_by_its_name():
    names = list(solved(draw_rows(400, np.random.default_rng(0))))
    assert names == [
        "max_worse=0.005",
        "max_worse=0.01",
        "max_worse=0.02",
        "max_worse=0.05",
        "max_strong_share=0.1",
        "max_strong_share=0.25",
        "max_strong_share=0.5",
        "max_strong_share=0.75",
        "threshold=0",
        "threshold=1",
    ]
    assert DEFAULT_POLICY in names


def test_always_weak_and_always_strong_say_what_they_do():
    rows = draw_rows(500, np.random.default_rng(1))
    policies = solved(rows)
    weak, strong = policies["threshold=0"], policies["threshold=1"]
    assert (weak.share_weak, strong.share_weak) == (1.0, 0.0)
    assert weak.share_worse == pytest.approx((rows.match == 0).mean())
    assert weak.quality_kept == pytest.approx(rows.weak_score.mean() / rows.strong_score.mean())
    assert (strong.share_worse, strong.quality_kept) == (0.0, 1.0)


def test_figures_of_a_policy_are_those_of_its_threshold():
    rows = draw_rows(2000, np.random.default_rng(2))
    for policy in solved(rows).values():
        if 0 < policy.threshold < 1:
            weak = goes_weak(rows, policy.threshold)
            assert policy.share_weak == pytest.approx(weak.mean())
            assert policy.share_worse == pytest.approx((weak & (rows.match == 0)).mean())
            quality = np.where(weak, rows.weak_score, rows.strong_score).mean() / rows.strong_score.mean()
            assert policy.quality_kept == pytest.approx(quality)


def test_a_lower_threshold_never_takes_a_row_from_the_weak_model():
    rows = draw_rows(500, np.random.default_rng(10), noise=2.0)
    router = plain_router(BAND)
    before = np.zeros(500, dtype=bool)
    for threshold in np.linspace(0.999, 0.001, 300):
        weak = router.cascade(rows.heads, threshold).p_match >= threshold
        assert not (before & ~weak).any()
        before = weak


def test_max_worse_states_a_bound_within_its_target():
    rows = draw_rows(3000, np.random.default_rng(3))
    policies = solved(rows)
    for target in MAX_WORSE_TARGETS:
        policy = policies[f"max_worse={target:g}"]
        assert policy.is_met
        assert policy.share_worse < policy.share_worse_bound <= target == policy.target
        events = round(policy.share_worse * 3000)
        assert policy.share_worse_bound == pytest.approx(binomial_upper_bound(events, 3000, policy.delta))
    assert [policies[f"max_worse={target:g}"].threshold for target in MAX_WORSE_TARGETS] == sorted(
        (policies[f"max_worse={target:g}"].threshold for target in MAX_WORSE_TARGETS), reverse=True
    )


@pytest.mark.parametrize(("rows_per_group", "optimism"), [(1, 0.0), (3, 0.0), (1, 1.5)])
def test_max_worse_is_broken_in_no_more_draws_than_stated(rows_per_group: int, optimism: float):
    target, n_draws = 0.05, 200
    everyone = draw_rows(20_000, np.random.default_rng(99), optimism=optimism)
    p_worse = 1 - expit(everyone.heads.full - optimism)
    broken, naive_broken, share_weak = 0, 0, 0.0
    for seed in range(n_draws):
        rows = draw_rows(400, np.random.default_rng(seed), rows_per_group=rows_per_group, optimism=optimism)
        draws = np.arange(400) * rows_per_group
        policy = max_worse(plain_router(BAND), rows, grid_of(rows), draws, target)
        if policy.is_met:
            broken += (goes_weak(everyone, policy.threshold) * p_worse).mean() > target
        share_weak += policy.share_weak / n_draws
        naive_broken += (goes_weak(everyone, naive_threshold(rows, target)) * p_worse).mean() > target
    spread = math.sqrt(DELTA * (1 - DELTA) / n_draws)
    assert broken / n_draws <= DELTA + 2 * spread
    # Not for want of trying: much goes weak, and the threshold that merely held on the rows seen breaks it often.
    assert share_weak > 0.3
    assert naive_broken / n_draws > 0.3


def grid_of(rows: PolicyRows) -> np.ndarray:
    return np.unique(np.quantile(expit(rows.heads.full), np.linspace(0.0, 1.0, 101)).astype(np.float32))


def naive_threshold(rows: PolicyRows, target: float) -> float:
    return min(float(one) for one in grid_of(rows) if (goes_weak(rows, one) & (rows.match == 0)).mean() <= target)


@pytest.mark.parametrize("target", MAX_STRONG_SHARE_TARGETS)
def test_max_strong_share_keeps_its_share_and_wastes_little_of_it(target: float):
    rows = draw_rows(2000, np.random.default_rng(4))
    policy = solved(rows)[f"max_strong_share={target:g}"]
    assert target - 0.02 < 1 - policy.share_weak <= target
    assert policy.share_worse_bound is None
    assert policy.delta is None


def test_max_strong_share_with_one_p_match_for_all_sends_all_weak():
    rows = draw_rows(300, np.random.default_rng(5), noise=0.0)
    same = np.full(300, 1.5)
    rows = PolicyRows(type(rows.heads)(same, same), rows.match, rows.strong_score, rows.weak_score, rows.group)
    policy = solved(rows)["max_strong_share=0.25"]
    assert policy.share_weak == 1.0


@pytest.mark.parametrize("n_groups", [1, 40])
def test_too_few_groups_prove_nothing_and_everything_goes_strong(n_groups: int):
    rows = draw_rows(n_groups, np.random.default_rng(6), rows_per_group=30)
    policy = solved(rows)["max_worse=0.01"]
    assert not policy.is_met
    assert policy.threshold == 1.0
    assert (policy.share_weak, policy.share_worse, policy.quality_kept) == (0.0, 0.0, 1.0)
    assert policy.share_worse_bound is None


def test_rows_that_are_all_worse_are_never_sent_weak():
    rows = draw_rows(2000, np.random.default_rng(7))
    worse = PolicyRows(rows.heads, np.zeros_like(rows.match), rows.strong_score, rows.weak_score, rows.group)
    for target in MAX_WORSE_TARGETS:
        policy = solved(worse)[f"max_worse={target:g}"]
        assert policy.share_weak <= target


def test_strong_model_without_any_score_leaves_quality_undefined():
    rows = draw_rows(300, np.random.default_rng(8))
    zero = np.zeros(300)
    for policy in solved(PolicyRows(rows.heads, rows.match, zero, zero, rows.group)).values():
        assert policy.quality_kept is None


def test_same_seed_gives_the_same_table():
    rows = draw_rows(500, np.random.default_rng(9), rows_per_group=2)
    assert solved(rows, seed=3) == solved(rows, seed=3)
