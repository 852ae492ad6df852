"""The gate: a worse challenger never passes, a better one nearly always, and each check fails for its own reason."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from tests.training.gating import (
    Population,
    answers_of,
    at_distance,
    drawn_population,
    n_promoted,
)
from tests.training.manifests import PROMISE
from turnout.training.evaluation.metrics import log_loss
from turnout.training.retrain.gate import GateLimits, GateRows, ServedAnswers, compare

TEST_ROWS = 1000
TRIES = 25
"""The benchmark has 100, on real rows: tests/bench/gate.py."""


@pytest.fixture(scope="module")
def population() -> tuple[Population, np.ndarray]:
    return drawn_population(40_000, seed=1)


def worse_ways(population: Population, p_match: np.ndarray) -> dict[str, np.ndarray]:
    """Return what three kinds of broken models say, each 0.02 nats worse than `p_match`."""
    rng = np.random.default_rng(2)
    lost = np.where(np.asarray(population.language) == "fi", rng.permutation(p_match), p_match)
    spoilt = {
        "shuffled labels": rng.permutation(p_match),
        "a language lost": np.where(np.asarray(population.language) == "fi", 1 - lost, p_match),
        "broken calibration": expit(1.8 * logit(p_match) + 0.4),
    }
    return {name: at_distance(p_match, towards, population.match) for name, towards in spoilt.items()}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["shuffled labels", "a language lost", "broken calibration"])
def test_worse_challenger_never_passes_and_better_one_nearly_always(
    population: tuple[Population, np.ndarray], way: str
):
    rows, good = population
    bad = worse_ways(rows, good)[way]
    assert log_loss(bad, rows.match) - log_loss(good, rows.match) == pytest.approx(0.02, abs=1e-6)
    assert n_promoted(rows, champion=good, challenger=bad, n_rows=TEST_ROWS, tries=TRIES) == 0
    assert n_promoted(rows, champion=bad, challenger=good, n_rows=TEST_ROWS, tries=TRIES) >= 0.9 * TRIES


def rows_of(n: int, seed: int = 0, **fields: object) -> tuple[GateRows, ServedAnswers]:
    """Return n rows and the answers of the model that they were drawn from."""
    population, p_match = drawn_population(n, seed)
    answers = answers_of(p_match, population.match)
    slices = {"task": population.task, "language": population.language}
    rows = GateRows(
        population.match, population.strong_score, population.weak_score, population.group, np.ones(n), slices
    )
    return replace(rows, **fields), answers


def by_name(checks: list) -> dict:
    return {check.name: check for check in checks}


def test_champion_against_itself_is_no_worse():
    rows, answers = rows_of(3000)
    for check in compare(rows, answers, answers, GateLimits()):
        assert check.is_met, check.name
        if check.interval is not None:
            assert (check.figure, *check.interval) == (0, 0, 0)


def test_figures_are_the_means_that_numpy_gives():
    rows, answers = rows_of(800)
    weight = np.random.default_rng(5).uniform(0.5, 4, 800)
    other = ServedAnswers(expit(logit(answers.p_match) * 0.7), ~answers.goes_weak)
    checks = by_name(compare(replace(rows, weight=weight), answers, other, GateLimits()))
    for said, check in ((answers, "champion"), (other, "challenger")):
        loss = np.average(-np.log(np.where(rows.match, said.p_match, 1 - said.p_match)), weights=weight)
        score = np.average(np.where(said.goes_weak, rows.weak_score, rows.strong_score), weights=weight)
        assert getattr(checks["log loss"], check) == pytest.approx(loss)
        assert getattr(checks["quality at the policy"], check) == pytest.approx(score)
    for check in (checks["log loss"], checks["quality at the policy"]):
        assert check.figure == pytest.approx(check.challenger - check.champion)
        assert check.interval[0] < check.figure < check.interval[1]


def test_probabilities_too_sure_of_themselves_fail_on_calibration():
    rows, answers = rows_of(4000)
    sure = ServedAnswers(expit(3 * logit(answers.p_match)), answers.goes_weak)
    check = by_name(compare(rows, answers, sure, GateLimits()))["calibration error above chance"]
    assert not check.is_met
    assert check.figure > 0.01 > check.champion


def test_champion_that_is_badly_calibrated_does_not_keep_out_a_better_one():
    rows, answers = rows_of(4000)
    wild = ServedAnswers(expit(3 * logit(answers.p_match)), answers.goes_weak)
    half = ServedAnswers(expit(2 * logit(answers.p_match)), answers.goes_weak)
    check = by_name(compare(rows, wild, half, GateLimits()))["calibration error above chance"]
    assert check.is_met
    assert 0.01 < check.figure < check.limit


def test_task_that_falls_is_named_and_its_own_bound_counts():
    rows, answers = rows_of(3000)
    in_code = np.asarray(rows.slices["task"]) == "code"
    reckless = ServedAnswers(answers.p_match, answers.goes_weak | in_code)
    check = by_name(compare(rows, answers, reckless, GateLimits(quality=1.0)))["quality of each task"]
    assert (check.is_met, check.where) == (False, "task code")
    assert check.figure < -0.05
    allowed = compare(rows, answers, reckless, GateLimits(quality=1.0, by_task={"code": 0.5}))
    assert by_name(allowed)["quality of each task"].is_met


def test_language_that_is_lost_is_named():
    rows, answers = rows_of(3000)
    is_fi = np.asarray(rows.slices["language"]) == "fi"
    lost = ServedAnswers(np.where(is_fi, 0.5, answers.p_match), answers.goes_weak)
    check = by_name(compare(rows, answers, lost, GateLimits()))["log loss of each task"]
    assert (check.is_met, check.where) == (False, "language fi")


def test_test_too_small_to_tell_keeps_the_champion():
    rows, answers = rows_of(60)
    other = ServedAnswers(
        expit(logit(answers.p_match) + np.random.default_rng(0).normal(0, 0.5, 60)), answers.goes_weak
    )
    check = by_name(compare(rows, other, answers, GateLimits()))["log loss"]
    assert not check.is_met
    assert check.interval[1] > check.limit


def test_quality_that_falls_by_more_than_is_allowed_is_refused():
    rows, answers = rows_of(2000)
    reckless = ServedAnswers(answers.p_match, answers.p_match > 0.5)
    check = by_name(compare(rows, answers, reckless, GateLimits()))["quality at the policy"]
    assert not check.is_met
    assert check.figure < check.limit == -0.01


@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_order_of_the_rows_and_scale_of_the_weights_change_no_figure(seed: int):
    rows, answers = rows_of(150, seed)
    other = ServedAnswers(expit(logit(answers.p_match) * 0.8), answers.goes_weak)
    order = np.random.default_rng(seed).permutation(150)
    slices = {kind: [names[row] for row in order] for kind, names in rows.slices.items()}
    columns = ("match", "strong_score", "weak_score", "group")
    moved = replace(
        rows, weight=3 * rows.weight, slices=slices, **{name: getattr(rows, name)[order] for name in columns}
    )
    taken = [ServedAnswers(one.p_match[order], one.goes_weak[order]) for one in (answers, other)]
    before, after = compare(rows, answers, other, GateLimits(), seed=1), compare(moved, *taken, GateLimits(), seed=1)
    for a, b in zip(before, after, strict=True):
        assert (a.name, a.is_met, a.where) == (b.name, b.is_met, b.where)
        assert a.figure == pytest.approx(b.figure, abs=1e-9)


def test_quality_may_fall_by_what_the_policy_allows():
    for policy, allowed in (
        (PROMISE, 0.01),
        (msgspec.structs.replace(PROMISE, target=0.05), 0.05),
        (msgspec.structs.replace(PROMISE, kind="min_quality", target=0.98), 0.02),
        (msgspec.structs.replace(PROMISE, kind="threshold", target=0.4), 0.01),
    ):
        assert GateLimits().at(policy).quality == pytest.approx(allowed)
        assert GateLimits(quality=0.3).at(policy).quality == 0.3
