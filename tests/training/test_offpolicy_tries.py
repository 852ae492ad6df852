"""Policies over three actions, replayed: intervals that hold a known truth, nothing claimed where nothing shows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tests.training.tries_world import LOGGED, SecondLook, Thresholds, TriedWorld, another_look, candidate
from turnout.training.offpolicy.replay import ALL_STRONG, AS_LOGGED, PolicyReplay, replay
from turnout.training.offpolicy.rows import LoggedRows
from turnout.training.offpolicy.savings.quality import quality

NAMES = ("ips", "snips", "dr")
TARGETS = {
    "as the log": LOGGED,
    "tries less": (0.75, 0.97, 0.7),
    "more of the weak unchecked": (0.5, 0.8, 0.7),
    "accepts less": (0.5, 0.97, 0.85),
    "accepts more": (0.5, 0.97, 0.5),
}
"""None tries what the log never tried: of those nothing is known."""


def replayed(rows: LoggedRows, thresholds: tuple[float, float, float]) -> PolicyReplay:
    return replay(rows, [candidate(rows, thresholds)]).policies[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_intervals_hold_the_truth_of_every_kind_of_policy(name: str):
    world = TriedWorld()
    rows = world.log(8000, seed=3)
    one, (score, usd) = replayed(rows, TARGETS[name]), world.truth(TARGETS[name])
    assert one.unknown == 0
    for estimator in NAMES:
        found = getattr(one.score, estimator)
        assert found.low - 0.004 < score < found.high + 0.004, (estimator, found, score)
    assert one.usd_per_1k.dr.value == pytest.approx(1000 * usd, rel=0.03)
    strong, _ = world.truth((2.0, 2.0, 2.0))
    assert one.score_lost.low - 0.004 < strong - score < one.score_lost.high + 0.004


ANOTHERS = {
    "its own threshold": (0.5, 0.97, 0.6),
    "accepts less": (0.5, 0.97, 0.85),
    "accepts more": (0.5, 0.97, 0.4),
    "tries less": (0.75, 0.97, 0.7),
}
"""Policies of another second look than the log's."""
CASES = [*((thresholds, None) for thresholds in TARGETS.values()), *((one, another_look) for one in ANOTHERS.values())]


@pytest.mark.bench
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("thresholds", "look"), CASES, ids=[*TARGETS, *(f"another: {name}" for name in ANOTHERS)])
def test_intervals_hold_the_truth_as_often_as_they_say(thresholds: Thresholds, look: SecondLook | None):
    world = TriedWorld(both=0.1 if look is None else 0.2)
    truth = world.truth(thresholds) if look is None else world.truth(thresholds, look=look)
    n_logs = 0
    held = dict.fromkeys([f"{what} {estimator}" for what in ("score", "usd") for estimator in NAMES], 0)
    for seed in range(200):
        rows = world.log(1500, seed)
        one = replay(rows, [candidate(rows, thresholds, look)]).policies[2]
        if one.unknown:  # no pair shows a verdict that is stricter than the log's: the figures are those of other rows
            continue
        n_logs += 1
        for what, figures, true in (("score", one.score, truth[0]), ("usd", one.usd_per_1k, 1000 * truth[1])):
            for estimator in NAMES:
                found = getattr(figures, estimator)
                held[f"{what} {estimator}"] += found.low < true < found.high
    print(f"{thresholds}, {n_logs} logs: " + ", ".join(f"{what} {100 * n / n_logs:.1f} %" for what, n in held.items()))
    assert n_logs > 150
    for what, n in held.items():
        assert stats.binomtest(n, n_logs, 0.95).pvalue > 0.001, (what, n)


def test_the_logs_own_policy_and_all_strong_stand_beside_it():
    world = TriedWorld()
    rows = world.log(6000, seed=4)
    own, strong, _ = replay(rows, [candidate(rows, LOGGED)]).policies
    assert (own.policy, strong.policy) == (AS_LOGGED, ALL_STRONG)
    assert own.score.dr.low < world.truth(LOGGED)[0] < own.score.dr.high
    assert strong.score.dr.low < world.truth((2.0, 2.0, 2.0))[0] < strong.score.dr.high
    assert own.share_tried == pytest.approx(rows.tries.chose_try.mean())
    assert 0.2 < own.share_escalated < 0.8
    assert (strong.share_tried, strong.share_escalated) == (0.0, None)


def test_a_stricter_verdict_is_unknown_where_nobody_ever_asked_for_both():
    rows = TriedWorld(both=0.0).log(1000, seed=5)
    stricter, looser = replayed(rows, (0.5, 0.97, 0.85)), replayed(rows, (0.5, 0.97, 0.5))
    assert stricter.unknown == int(rows.tries.chose_try.sum())
    assert looser.unknown == 0


def test_a_looser_verdict_is_unknown_where_nobody_judged_an_answer_that_was_thrown_away():
    rows = TriedWorld(both=0.0, discarded=0.0).log(1000, seed=6)
    n_tries = int(rows.tries.chose_try.sum())
    looser, weak, same = (replayed(rows, thresholds) for thresholds in ((0.5, 0.97, 0.5), (0.0, 0.0, 0.7), LOGGED))
    assert (looser.unknown, same.unknown) == (n_tries, 0)
    assert weak.unknown >= n_tries


def test_a_stricter_verdict_is_unknown_where_callers_did_not_obtain_the_second_answer():
    rows = TriedWorld(discarded=0.4).log(1000, seed=10)
    never = np.where(rows.is_weak[:, None], [[False, True]], [[True, False]])
    mute = replace(rows, score=np.where(never, np.nan, rows.score), usd=np.where(never, np.nan, rows.usd))
    assert replayed(mute, (0.5, 0.97, 0.85)).unknown == int(rows.tries.chose_try.sum())
    assert replayed(mute, LOGGED).unknown == 0


def test_what_was_never_tried_is_unknown_to_a_policy_that_tries_it():
    rows = TriedWorld().log(1000, seed=7)
    one = replayed(rows, (0.3, 0.97, 0.7))
    assert one.unknown == int(((rows.p_match >= 0.3) & (rows.p_match < LOGGED[0])).sum())


@pytest.mark.slow
def test_wrong_propensities_of_a_try_show():
    """Else the tests above would hold whatever the weights are."""
    world = TriedWorld(rate=0.4)
    rows = world.log(30_000, seed=8)
    wrong = replace(rows, propensity_of_try=np.full(len(rows), 0.95))
    truth = world.truth(LOGGED)[0]
    right, off = (replayed(one, LOGGED).score for one in (rows, wrong))
    assert abs(right.ips.value - truth) < 0.012
    assert abs(off.ips.value - truth) > 0.05


def test_quality_as_served_counts_the_strong_answer_of_an_escalation():
    world = TriedWorld(discarded=0.0)
    rows = world.log(8000, seed=9)
    _, chance, _, _ = world._drawn(8000, seed=9)
    found = quality(rows)
    served = np.where(rows.served_weak, chance[:, 0], chance[:, 1])
    is_open = ~(rows.tries.was_tried & ~rows.tries.is_checked)  # what the caller showed then, nobody knows
    assert found.score.low < served[is_open].mean() < found.score.high
    assert found.score_lost.low < (chance[:, 1] - served).mean() < found.score_lost.high
    worse = rows.served_weak * (1 - chance[:, 0]) * chance[:, 1]
    assert found.made_worse.low < worse.mean() < found.made_worse.high


@pytest.mark.parametrize("name", ANOTHERS)
def test_intervals_hold_the_truth_of_another_second_look(name: str):
    """Its verdicts differ both ways at any threshold: of a stricter one the pairs tell, with their propensity."""
    world = TriedWorld(both=0.2)
    rows = world.log(8000, seed=13)
    one = replay(rows, [candidate(rows, ANOTHERS[name], another_look)]).policies[2]
    score, usd = world.truth(ANOTHERS[name], look=another_look)
    assert one.unknown == 0
    for estimator in NAMES:
        found = getattr(one.score, estimator)
        assert found.low - 0.004 < score < found.high + 0.004, (estimator, found, score)
    assert one.usd_per_1k.dr.value == pytest.approx(1000 * usd, rel=0.05)


def test_another_second_look_is_unknown_where_nobody_ever_asked_for_both():
    rows = TriedWorld(both=0.0).log(1000, seed=5)
    one = replay(rows, [candidate(rows, (0.5, 0.97, 0.3), another_look)]).policies[2]
    assert one.unknown == int(rows.tries.chose_try.sum())


def test_another_second_look_that_read_no_answer_is_unknown():
    rows = TriedWorld(both=0.2).log(1000, seed=5)
    blind = candidate(rows, (0.5, 0.97, 0.3), another_look)
    verdicts = replace(blind.verdicts, is_read=np.zeros(len(rows), dtype=bool))
    one = replay(rows, [replace(blind, verdicts=verdicts)]).policies[2]
    assert one.unknown == int(rows.tries.chose_try.sum())
    assert one.share_escalated is None
