"""Policies keep what they promise, on rows with a known truth."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from tests.training.routers import draw_rows, plain_router
from turnout.training.dataset.costs import RequestCosts
from turnout.training.policy.guarantees import binomial_upper_bound
from turnout.training.policy.policy import (
    DEFAULT_POLICY,
    DELTA,
    MAX_STRONG_SHARE_TARGETS,
    MAX_WORSE_TARGETS,
    MIN_QUALITY_TARGETS,
    SOLVED_DELTA,
    PolicyRows,
    max_cost,
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


def test_table_holds_every_rule_by_its_name():
    names = list(solved(draw_rows(400, np.random.default_rng(0))))
    assert names == [
        "max_worse=0.005",
        "max_worse=0.01",
        "max_worse=0.02",
        "max_worse=0.05",
        "min_quality=0.95",
        "min_quality=0.98",
        "min_quality=0.99",
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
        assert policy.share_worse_bound == pytest.approx(binomial_upper_bound(events, 3000, SOLVED_DELTA))
    assert [policies[f"max_worse={target:g}"].threshold for target in MAX_WORSE_TARGETS] == sorted(
        (policies[f"max_worse={target:g}"].threshold for target in MAX_WORSE_TARGETS), reverse=True
    )


@pytest.mark.slow
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


def test_min_quality_keeps_what_it_promises_of_a_sample_and_more_where_less_is_asked():
    rows = draw_rows(3000, np.random.default_rng(3))
    policies = [solved(rows)[f"min_quality={target:g}"] for target in MIN_QUALITY_TARGETS]
    for policy in policies:
        assert policy.is_met
        assert policy.quality_kept > policy.target
        assert (policy.share_worse_bound, policy.delta) == (None, DELTA)
    assert [policy.share_weak for policy in policies] == sorted((one.share_weak for one in policies), reverse=True)


def test_min_quality_counts_a_group_once_however_often_it_was_asked():
    rows = draw_rows(3000, np.random.default_rng(11))
    thrice = draw_rows(3000, np.random.default_rng(11), rows_per_group=3)
    for once, often in zip(solved(rows).values(), solved(thrice).values(), strict=True):
        if once.kind == "min_quality":
            assert once.threshold == pytest.approx(often.threshold, abs=0.02)


def test_min_quality_lets_the_weak_models_wins_pay_for_its_losses():
    rows = draw_rows(3000, np.random.default_rng(12))
    winning = (rows.match == 1) & (np.random.default_rng(0).random(3000) < 0.3)
    strong, weak = np.where(winning, 0.0, rows.strong_score), np.where(winning, 1.0, rows.weak_score)
    better = PolicyRows(rows.heads, rows.match, strong, weak, rows.group)
    assert solved(better)["min_quality=0.99"].share_weak == 1.0
    assert solved(better)["max_worse=0.01"].share_weak == solved(rows)["max_worse=0.01"].share_weak


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_scores_without_any_room_or_proof_send_everything_strong(value: float):
    rows = draw_rows(2000, np.random.default_rng(13))
    everyone = np.full(2000, value)
    lost = PolicyRows(rows.heads, np.zeros_like(rows.match), everyone, np.zeros(2000), rows.group)
    policy = solved(lost)["min_quality=0.99"]
    assert policy.share_weak <= 0.01
    assert policy.is_met == (value > 0)


@pytest.mark.parametrize("target", MAX_STRONG_SHARE_TARGETS)
def test_max_strong_share_keeps_its_share_and_wastes_little_of_it(target: float):
    rows = draw_rows(2000, np.random.default_rng(4))
    policy = solved(rows)[f"max_strong_share={target:g}"]
    assert target - 0.02 < 1 - policy.share_weak <= target
    assert policy.share_worse_bound is None
    assert policy.delta is None


def with_strangers(rows: PolicyRows, share: float, seed: int = 0) -> PolicyRows:
    """Return the rows with a share of them out of distribution."""
    return dataclasses.replace(rows, is_out_of_distribution=np.random.default_rng(seed).random(rows.match.size) < share)


@given(share=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_what_is_out_of_distribution_goes_strong_under_every_policy(share: float, seed: int):
    rows = with_strangers(draw_rows(300, np.random.default_rng(seed)), share, seed)
    for policy in solved(rows).values():
        weak = goes_weak(rows, policy.threshold) if 0 < policy.threshold < 1 else np.full(300, policy.threshold == 0)
        weak &= ~rows.is_out_of_distribution
        assert policy.share_weak == pytest.approx(weak.mean())
        assert policy.share_worse == pytest.approx((weak & (rows.match == 0)).mean())


def test_strangers_that_would_be_worse_leave_room_for_a_lower_threshold():
    rows = draw_rows(3000, np.random.default_rng(30))
    strange = np.random.default_rng(31).random(3000) < 0.2
    rows = dataclasses.replace(rows, match=np.where(strange, 0, rows.match))
    before, after = (
        solved(one)["max_worse=0.05"] for one in (rows, dataclasses.replace(rows, is_out_of_distribution=strange))
    )
    assert after.threshold < before.threshold
    assert after.share_weak > before.share_weak
    assert after.share_worse_bound <= 0.05


def test_more_strangers_than_may_go_strong_are_said_to_break_the_share():
    policies = solved(with_strangers(draw_rows(1000, np.random.default_rng(32)), 0.3))
    assert not policies["max_strong_share=0.25"].is_met
    assert policies["max_strong_share=0.25"].threshold == 0.0
    assert policies["max_strong_share=0.5"].is_met


def with_costs(rows: PolicyRows, strong: float = 0.02, weak: float = 0.001) -> PolicyRows:
    n = rows.match.size
    costs = RequestCosts(np.full(n, strong), np.full(n, weak))
    return PolicyRows(rows.heads, rows.match, rows.strong_score, rows.weak_score, rows.group, costs)


def test_cost_policies_stand_at_shares_of_the_strong_cost_and_are_the_best_that_money_buys():
    rows = with_costs(draw_rows(2000, np.random.default_rng(14)))
    policies = solved(rows)
    bought = [policy for policy in policies.values() if policy.kind == "max_cost_usd_per_1k"]
    assert [policy.name for policy in bought] == [f"max_cost_usd_per_1k={usd}" for usd in ("5", "10", "15")]
    for policy in bought:
        assert policy.target - 0.25 < policy.cost_usd_per_1k <= policy.target
        weak = goes_weak(rows, policy.threshold)
        assert policy.cost_usd_per_1k == pytest.approx(1000 * np.where(weak, 0.001, 0.02).mean())
    assert policies["threshold=0"].cost_usd_per_1k == pytest.approx(1)
    assert policies["threshold=1"].cost_usd_per_1k == pytest.approx(20)


def test_rows_of_unknown_cost_are_left_out_of_the_mean():
    rows = with_costs(draw_rows(2000, np.random.default_rng(15)))
    rows.costs.strong[:500] = rows.costs.weak[:500] = math.nan
    policy = solved(rows)["max_cost_usd_per_1k=10"]
    weak = goes_weak(rows, policy.threshold)[500:]
    assert policy.cost_usd_per_1k == pytest.approx(1000 * np.where(weak, 0.001, 0.02).mean())


def test_no_cost_policy_is_offered_that_even_the_weak_model_exceeds():
    names = solved(with_costs(draw_rows(500, np.random.default_rng(16)), strong=0.02, weak=0.012))
    assert [name for name in names if "cost" in name] == ["max_cost_usd_per_1k=15"]


@pytest.mark.parametrize(("usd", "share_weak", "is_met"), [(100.0, 0.0, True), (1.01, 1.0, True), (0.5, 0.0, False)])
def test_budget_beyond_either_end_sends_everything_one_way(usd: float, share_weak: float, is_met: bool):
    rows = with_costs(draw_rows(500, np.random.default_rng(17)))
    policy = max_cost(plain_router(BAND), rows, rows.costs, grid_of(rows), usd)
    assert (policy.share_weak, policy.is_met) == (share_weak, is_met)


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
