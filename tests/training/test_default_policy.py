"""The default policy is of use and says why; rows say what they can carry; any level is solved as the table is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.serving.bundles.manifest import level_policy
from turnout.serving.bundles.policy import Policy
from turnout.serving.bundles.risk_path import RiskPath, level_of, most_events
from turnout.training.errors import DataRefused
from turnout.training.policy.default import carried, default_policy, least_rows
from turnout.training.policy.guarantees import binomial_upper_bound
from turnout.training.policy.policy import MAX_WORSE_TARGETS, SOLVED_DELTA


def policy(target: float, share_weak: float, *, is_met: bool = True) -> Policy:
    return Policy(f"max_worse={target:g}", "max_worse", target, 0.9, is_met, share_weak, None, 0.0)


def test_strictest_promise_of_use_is_the_default():
    name, reason = default_policy([policy(0.05, 0.6), policy(0.01, 0.02), policy(0.02, 0.2)])
    assert name == "max_worse=0.02"
    assert "20.0%" in reason


def test_no_promise_of_use_leaves_the_one_that_sends_most_and_says_so():
    name, reason = default_policy([policy(0.01, 0.01), policy(0.02, 0.05), policy(0.05, 0.9, is_met=False)])
    assert name == "max_worse=0.02"
    assert "no promise sends" in reason


def test_no_promise_at_all_is_said_loudly():
    _, reason = default_policy([policy(0.01, 0.0, is_met=False)])
    assert "EVERYTHING" in reason


def test_operator_is_obeyed_and_an_unknown_name_refused():
    assert default_policy([policy(0.01, 0.0), policy(0.05, 0.5)], "max_worse=0.01")[0] == "max_worse=0.01"
    with pytest.raises(DataRefused, match=r"max_worse=0\.01"):
        default_policy([policy(0.01, 0.0)], "max_best=1")


@pytest.mark.parametrize("target", MAX_WORSE_TARGETS)
def test_least_rows_are_the_fewest_that_show_it(target: float):
    n = least_rows(target)
    assert binomial_upper_bound(0, n, SOLVED_DELTA) <= target < binomial_upper_bound(0, n - 1, SOLVED_DELTA)


def test_two_hundred_and_thirty_rows_carry_a_promise_and_know_what_the_next_one_needs():
    said = carried(230)
    assert "max_worse=0.02" in said
    assert f"max_worse=0.01 needs at least {least_rows(0.01) - 230} more" in said


@given(st.integers(1, 3000), st.sampled_from([0.0005, 0.005, 0.01, 0.03, 0.2, 0.5]), st.sampled_from([0.07, 0.1]))
def test_most_events_agree_with_the_exact_bound(n: int, level: float, delta: float):
    most = most_events(n, level, delta)
    assert most == -1 or binomial_upper_bound(most, n, delta) <= level + 1e-9
    assert binomial_upper_bound(most + 1, n, delta) > level - 1e-9


@dataclass
class Walk:
    path: RiskPath

    def accepted(self, level: float) -> float:
        """Return the threshold that fixed-sequence testing with the exact bound accepts last; 1 for none."""
        accepted = 1.0
        for threshold, worse in zip(self.path.thresholds, self.path.worse, strict=True):
            if binomial_upper_bound(worse, self.path.n, self.path.solved_delta) > level:
                break
            accepted = threshold
        return accepted


@given(st.integers(0, 2**32 - 1), st.integers(1, 1000).map(lambda steps: steps * 0.0005))
def test_any_level_is_solved_as_the_rows_would(seed: int, level: float):
    rng = np.random.default_rng(seed)
    thresholds = np.sort(rng.uniform(0.01, 0.99, 50))[::-1]
    worse = np.cumsum(rng.integers(0, 4, 50))
    share = tuple(np.linspace(0.0, 1.0, 50))
    path = RiskPath(tuple(thresholds.tolist()), tuple(worse.tolist()), share, share, 900, 0.07, 0.1)
    found = level_policy(path, level)
    assert found.threshold == Walk(path).accepted(level)
    assert found.is_met == (found.threshold < 1.0)


@pytest.mark.parametrize(
    "name",
    ["max_worse=nan", "max_worse=inf", "max_worse=-0.1", "max_worse=0", "max_worse=0.7", "max_worse=0.01234", "x", "",
     "max_worse", "max_worse=", "min_quality=0.03", "max_worse=0.0300000001"],
)  # fmt: skip
def test_what_is_no_level_is_none(name: str):
    assert level_of(name) is None


def test_levels_between_those_of_the_table_are_read():
    assert level_of("max_worse=0.03") == 0.03
