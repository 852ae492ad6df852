"""Off-policy estimates: intervals that cover a known truth as often as they say, whichever half of DR is wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from tests.training.offpolicy_world import TARGET, World, takes_weak
from turnout.training.offpolicy.estimators import Estimate, estimates, mean, ratio, sample
from turnout.training.offpolicy.outcome_model import predicted_scores, predicted_usd
from turnout.training.offpolicy.replay import ALL_STRONG, AS_LOGGED, Candidate, replay
from turnout.training.offpolicy.rows import LoggedRows
from turnout.training.offpolicy.rungs import asked_propensity

NAMES = ("ips", "snips", "dr")
ALARM = 1e-3
UNITS = st.floats(0, 1)


def estimated(rows: LoggedRows, measure: str = "score", predicted: np.ndarray | None = None):
    outcome = getattr(rows, measure)
    if predicted is None:
        predicted = predicted_scores(rows) if measure == "score" else predicted_usd(rows)
    return estimates(sample(rows.session, outcome, rows.asked, rows.propensity, takes_weak(rows), predicted))


def coverage(world: World, n_sessions: int, n_logs: int) -> dict[tuple[str, str], int]:
    """Return how many intervals hold the truth, by measure and estimator."""
    truth = dict(zip(("score", "usd"), world.truth(TARGET), strict=True))
    held = dict.fromkeys(((measure, name) for measure in truth for name in NAMES), 0)
    for seed in range(n_logs):
        rows = world.log(n_sessions, seed)
        for measure, value in truth.items():
            found = estimated(rows, measure)
            for name in NAMES:
                one: Estimate = getattr(found, name)
                held[measure, name] += one.low <= value <= one.high
    return held


def assert_nominal(held: dict[tuple[str, str], int], n_logs: int) -> None:
    for key, n_held in held.items():
        assert stats.binomtest(n_held, n_logs, 0.95).pvalue > ALARM, f"{key}: {n_held} of {n_logs}"


def test_intervals_hold_the_truth_as_often_as_they_say():
    assert_nominal(coverage(World(), 500, 80), 80)


@pytest.mark.bench
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("world", "n_sessions"),
    [
        (World(rate=0.1, both=0.05), 1500),
        (World(rate=0.02, both=0.02), 6000),
        (World(rate=0.05, both=0.0), 3000),
        (World(rate=0.0, both=0.1, scored=0.4), 3000),
        (World(rate=0.05, both=0.02, hard_rate=0.3), 2000),
    ],
    ids=["10 % and 5 %", "2 % and 2 %", "5 % other", "10 % both, 40 % judged", "30 % of the hard"],
)
def test_intervals_hold_the_truth_as_often_as_they_say_in_many_worlds(world: World, n_sessions: int):
    n_logs = 400
    held = coverage(world, n_sessions, n_logs)
    print({f"{measure} {name}": f"{n_held / n_logs:.1%}" for (measure, name), n_held in held.items()})
    assert_nominal(held, n_logs)


def test_rows_of_a_session_are_one_draw_and_intervals_know_it():
    rows = World(rate=0.3, both=0.0).log(400, seed=3)
    repeated = rows.only(np.repeat(np.arange(len(rows)), 5))
    once, again = estimated(rows).snips, estimated(repeated, predicted=predicted_scores(rows).repeat(5, axis=0)).snips
    assert again.value == pytest.approx(once.value)
    assert again.high - again.low == pytest.approx(once.high - once.low)


@pytest.fixture(scope="module")
def large() -> tuple[LoggedRows, float]:
    world = World(rate=0.05, both=0.0, scored=1.0, hard_rate=0.4)
    return world.log(60_000, seed=1), world.truth(TARGET)[0]


def test_doubly_robust_is_right_with_wrong_propensities_and_the_right_model(large: tuple[LoggedRows, float]):
    rows, truth = large
    at_tier = np.where(rows.is_weak[:, None], [0.5, 0.5], [0.5, 0.5])
    wrong = dataclasses.replace(rows, propensity=at_tier)
    found = estimated(wrong)
    assert abs(found.dr.value - truth) < 0.012
    assert abs(found.ips.value - truth) > 0.05
    assert abs(found.snips.value - truth) > 0.02


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.3])
def test_doubly_robust_is_right_with_a_wrong_model_and_the_right_propensities(
    large: tuple[LoggedRows, float], constant: float
):
    rows, truth = large
    predicted = np.full_like(rows.score, constant)
    found = estimated(rows, predicted=predicted)
    assert abs(found.dr.value - truth) < 0.012
    assert abs(float(predicted.mean()) - truth) > 0.1


def test_doubly_robust_is_narrower_than_inverse_propensity(large: tuple[LoggedRows, float]):
    found = estimated(large[0])
    assert found.dr.high - found.dr.low < 0.8 * (found.ips.high - found.ips.low)


@given(arrays.arrays(np.float64, st.integers(2, 40), elements=UNITS), st.data())
def test_with_every_answer_known_all_three_are_the_mean(scores: np.ndarray, data: st.DataObject):
    n = len(scores)
    weak = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    both = np.column_stack([scores, scores[::-1]])
    everything = np.ones((n, 2))
    of = sample(np.arange(n), both, everything > 0, everything, weak, everything * data.draw(UNITS))
    found = estimates(of)
    expected = np.where(weak, both[:, 0], both[:, 1])
    assert [getattr(found, name).value for name in NAMES] == pytest.approx([expected.mean()] * 3)
    assert of.effective_rows == pytest.approx(n)


@given(arrays.arrays(np.float64, st.integers(3, 50), elements=st.floats(-5, 5)))
def test_interval_of_a_mean_over_single_rows_is_students(terms: np.ndarray):
    found = mean(terms, np.arange(len(terms)))
    if np.ptp(terms) > 1e-6:
        low, high = stats.t.interval(0.95, len(terms) - 1, loc=terms.mean(), scale=stats.sem(terms))
        assert (found.low, found.high) == pytest.approx((low, high))


@given(st.lists(st.tuples(UNITS, st.floats(0.1, 50)), min_size=2, max_size=30))
def test_self_normalised_estimate_lies_within_its_outcomes(rows: list[tuple[float, float]]):
    outcome, weight = np.array(rows).T
    found = ratio(weight * outcome, weight, np.arange(len(rows)))
    assert outcome.min() - 1e-9 <= found.value <= outcome.max() + 1e-9


@given(st.floats(0.01, 1), st.floats(0, 1), st.booleans())
def test_an_answer_is_asked_for_by_either_of_two_independent_draws(route: float, pair: float, is_weak: bool):
    ((weak, strong),) = asked_propensity(np.array([route]), np.array([pair]), np.array([is_weak]))
    own, other = (weak, strong) if is_weak else (strong, weak)
    assert own == pytest.approx(route + pair - route * pair)
    assert other == pytest.approx((1 - route) + pair - (1 - route) * pair)


def test_replay_gives_cost_and_loss_against_all_strong_with_intervals_that_hold_the_truth():
    world = World()
    rows = world.log(4000, seed=11)
    found = replay(rows, [Candidate("target", TARGET, takes_weak(rows))])
    assert [one.policy for one in found.policies] == [AS_LOGGED, ALL_STRONG, "target"]
    (score, usd), (strong_score, strong_usd) = world.truth(TARGET), world.truth(2.0)
    one = found.policies[2]
    for estimate, truth in (
        (one.score.dr, score),
        (one.score_lost, strong_score - score),
        (one.usd_per_1k.dr, 1000 * usd),
        (one.usd_saved_per_1k, 1000 * (strong_usd - usd)),
    ):
        assert estimate.low < truth < estimate.high
    assert found.policies[1].score_lost.value == 0.0
    assert (found.without_overlap, one.unknown, one.is_thin) == (0, 0, False)


def test_rows_without_exploration_are_counted_and_nothing_is_claimed_of_those_that_would_move():
    rows = World(rate=0.0, both=0.0).log(300, seed=5)
    one = replay(rows, [Candidate("target", TARGET, takes_weak(rows))]).policies[2]
    n_moved = int((takes_weak(rows) != rows.chose_weak).sum())
    assert n_moved > 50
    assert replay(rows, []).without_overlap == len(rows)
    assert (one.unknown, one.moved, one.rows) == (n_moved, n_moved, len(rows) - n_moved)
    assert (one.sessions_seen, one.effective_rows) == (0, 0.0)


def test_a_log_without_scores_still_says_what_it_would_have_cost():
    rows = World(scored=0.0).log(300, seed=6)
    one = replay(rows, [Candidate("target", TARGET, takes_weak(rows))]).policies[2]
    tier = np.where(takes_weak(rows), 0, 1)
    expected = 1000 * rows.expected_usd[np.arange(len(rows)), tier].mean()
    assert (one.score, one.score_lost) == (None, None)
    assert one.usd_per_1k.dr.value == pytest.approx(
        expected
    )  # both costs are known of every row: nothing is left to chance


def test_few_explored_sessions_are_said_to_be_few():
    rows = World(rate=0.02, both=0.0).log(150, seed=2)
    assert replay(rows, [Candidate("target", TARGET, takes_weak(rows))]).policies[2].is_thin
