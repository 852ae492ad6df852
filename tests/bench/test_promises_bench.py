"""The benches of promises and growth on small made-up traffic: what they call broken, and what they enlarge."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from tests.bench.growth import enlarged
from tests.bench.live_promises import Traffic, figures, month, rates
from tests.bench.recipe import Rows
from tests.bench.redraws import figures as redrawn
from tests.bench.unfamiliar import GUARDS, PATH, SERVED, Asked, frontier
from tests.bench.unfamiliar import figures as of_family
from tests.bench.unfamiliar_two_looks import PATH as LEVELS_OF_TWO
from tests.bench.unfamiliar_two_looks import Followed, one_look, solve, summary
from tests.log_builders import record
from turnout.serving.decision.tightening import LADDER
from turnout.serving.router.features import N_BUCKETS
from turnout.training.dataset.dataset import Dataset
from turnout.training.dataset.splits import Groups
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.logs.records import Label, LabelledRecord
from turnout.training.policy.three_actions import Costs, LookedAt

STEPS = len(LADDER)
NOBODY = np.empty(0, int)


def traffic(share_worse: float, n: int = 4000) -> Traffic:
    """Return rows of which a tenth goes weak one step less each, and whose weak answers miss independently of that."""
    rng = np.random.default_rng(2)
    depth = np.where(rng.random(n) < 0.6, rng.integers(1, STEPS, size=n), 0)
    match = np.where((depth > 0) & (rng.random(n) < share_worse / 0.6), 0, 1)
    weak = np.array([(depth > step) & (match == 0) for step in range(STEPS)])
    return Traffic(tuple(weak.mean(axis=1)), depth, match, NOBODY, NOBODY)


def test_kept_promise_is_kept_and_costs_little():
    worse, kept, told, weak, weak_kept = month(traffic(0.02), 0.05, 0.0, 1000, 0)
    assert kept <= worse < 0.05
    assert not told
    assert weak_kept > 0.9 * weak


def test_weak_model_that_gets_much_worse_breaks_the_promise_but_for_tightening():
    before, after = (rates(traffic(0.04), drift) for drift in (0.0, 0.3))
    assert before[0][0] < 0.05
    assert after[0][0] > 0.15
    worse, kept, told, _, _ = np.array([month(traffic(0.04), 0.05, 0.3, 1000, seed) for seed in range(20)]).T
    assert (worse > 0.05).mean() > 0.8
    assert (kept > 0.05).mean() < 0.3
    assert told.mean() > 0.5


def test_where_pairs_hide_what_stricter_steps_would_do_thresholds_tighten_further():
    known = traffic(0.04)
    in_doubt = np.where(known.depth > 0, STEPS - 1, 0)
    hidden = dataclasses.replace(known, told=np.tile(in_doubt, (STEPS, 1)))
    seeds = range(20)
    _, kept, _, _, weak = np.array([month(known, 0.05, 0.3, 1000, seed) for seed in seeds]).T
    _, doubted, _, _, doubted_weak = np.array([month(hidden, 0.05, 0.3, 1000, seed) for seed in seeds]).T
    assert doubted.mean() < kept.mean()
    assert doubted_weak.mean() < weak.mean()


def test_table_counts_months():
    cells = figures([traffic(0.02)], 0.05, 0.0, 200)
    assert cells[:2] == ["0.0%", "0.0%"]


def test_redraws_count_what_was_broken():
    one = {"seed": 0.0, "rows": 10.0} | {f"{what} {level:g}": value for level in (0.005, 0.01, 0.02, 0.05)
                                         for what, value in (("weak", 0.2), ("worse", 0.015))}  # fmt: skip
    told = redrawn([one] * 10)
    assert "| 0.01 | 20.0% ± 0.0% | 100.0% (69.2% to 100.0%) |" in told
    assert "| 0.02 | 20.0% ± 0.0% | 0.0% (0.0% to 30.8%) |" in told


def asked(rare: list[float], *, known: bool) -> Asked:
    n = len(rare)
    lost = np.ones(n) if known else np.empty(0)
    is_above = np.ones((len(GUARDS), len(PATH), n), bool)
    return Asked(is_above, np.array(rare), np.array([1.0, 0.5, 0.3, 0.1]), lost, 2 * lost, lost.astype(bool))


def test_unfamiliar_goes_strong_and_the_frontier_has_a_point_a_level():
    family = asked([0.0, 0.2, 0.4, 0.6], known=True)
    assert of_family(family, 0.05, SERVED) == (0.75, 0.75, pytest.approx(1 - 3 / 8))
    lines = frontier({"one": family}, asked([0.0, 0.9, 0.9, 0.0], known=False), 2)
    assert [len(points) for points in lines.values()] == [len(PATH)] * len(GUARDS)
    assert lines["none"][0] == (1.0, 1.0, 1.0, 1.0)
    assert lines["20 %"][0] == (0.5, 0.5, 0.25, 0.25)


def test_two_looks_are_judged_by_what_the_caller_gets():
    levels, is_worse = len(LEVELS_OF_TWO), np.array([False, True, True, False])
    two = np.tile([True, True, False, False], (levels, 1))
    family = Followed(
        one=~two, tried=two, two=two, usd=np.ones((levels, 4)), has_signal=np.array([True, False, False, False]),
        strong_usd=np.ones(4), lost=is_worse.astype(float), strong=np.ones(4), is_worse=is_worse,
        is_unlike=np.zeros(4, bool),
    )  # fmt: skip
    assert family.figures("two")[0].tolist() == [0.5, 0.25, 0.75]
    assert family.figures("one")[0].tolist() == [0.5, 0.25, 0.75]
    assert family.figures("signal")[0].tolist() == [1.0, 0.0, 1.0]
    unsigned = replace(family, has_signal=np.zeros(4, bool))
    mean, worst = summary([family, unsigned], "signal")  # a family without a signal counts in neither
    assert mean[0].tolist() == worst[0].tolist() == [1.0, 0.0, 1.0]


def test_one_look_never_sends_what_is_unlike_to_the_weak_model():
    rng, n = np.random.default_rng(3), 2000
    first = rng.random(n)
    match = (rng.random(n) < first).astype(int)
    ones = np.ones(n)
    costs = Costs(ones / 17, ones, np.zeros(n))
    is_unlike = rng.random(n) < 0.3
    rows = LookedAt(first, match * 0.9 + 0.05, match, match.astype(float), ones, np.arange(n), costs, is_unlike)
    one, two = solve(rows, 0.05, seed=0)
    assert one.answered_weak(one_look(rows)).mean() > 0.1
    assert not (one.answered_weak(one_look(rows)) & is_unlike).any()
    assert (two.answered_weak(rows) & is_unlike).any()
    assert (two.answered_weak(rows) & (match == 0)).mean() <= 0.05


def test_enlarged_rows_are_the_known_ones_and_perturbed_copies_in_groups_of_their_own():
    rng, n = np.random.default_rng(1), 50
    counts = csr_matrix(rng.integers(0, 3, size=(n, 200)).astype(np.float32))
    counts = csr_matrix((counts.data, counts.indices, counts.indptr), (n, N_BUCKETS))
    table = FeatureTable(counts, np.zeros((n, 16), np.float32), rng.normal(size=(n, 8)).astype(np.float32))
    rows = [LabelledRecord(record(f"{row}"), Label(1, "scores", 1.0)) for row in range(n)]
    ones = np.ones(n)
    data = Dataset(rows, Groups(np.arange(n), [()] * n), np.ones(n, np.int64), ones, ones, has_scores=True, weight=ones)
    large = enlarged(Rows(data, table, np.array(["a"] * n)), 500)
    assert large.table.counts.shape[0] == large.match.size == 500
    assert np.unique(large.group).size == 500
    assert 0 < (large.match == 0).sum() < 40
    same = {row.tobytes() for row in table.dense}
    assert sum(row.tobytes() in same for row in large.table.dense) == n
