"""Savings: amounts by hand, caches that a switch throws away, and quality that the log can show."""

from __future__ import annotations

import datetime as dt
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from tests.training.offpolicy_world import World
from tests.training.spools import DAY_S, NOON_S, decision, outcome, sealed
from turnout.serving.decision.prices import cost_usd
from turnout.training.errors import DataRefused
from turnout.training.offpolicy.log import read_decisions
from turnout.training.offpolicy.rows import LoggedRows
from turnout.training.offpolicy.savings.caches import Turn, warm_tokens
from turnout.training.offpolicy.savings.machine import Machine
from turnout.training.offpolicy.savings.quality import quality
from turnout.training.offpolicy.savings.savings import Savings, between, savings
from turnout.training.offpolicy.savings.spend import Spend, spend_of
from turnout.training.offpolicy.tries import LoggedTries

STRONG, WEAK = "gpt-4o", "gpt-4o-mini"
FREE = Machine(0.0, 0.0)


def routed(request_id: str, model: str = WEAK, **fields: Any) -> Any:
    tier, other = ("weak", STRONG) if model == WEAK else ("strong", WEAK)
    return decision(request_id, route=tier, model=model, other_model=other, **fields)


def answered(request_id: str, model: str, prompt: int, completion: int, cached: int = 0, **fields: Any) -> Any:
    tokens = {"prompt_tokens": prompt, "completion_tokens": completion, "cached_tokens": cached}
    return outcome(request_id, model=model, **tokens, **fields)


def turn(at_s: float, model: str, prompt: int, cached: int) -> Turn:
    return Turn(at_s, model, prompt, cached)


def table_of(folder: Path, *records: Any) -> Any:
    sealed(folder, records)
    return read_decisions(folder)


def spend(folder: Path, *records: Any) -> Spend:
    return spend_of(table_of(folder, *records))


def test_weak_answer_is_set_against_the_strong_one_at_the_same_tokens(tmp_path: Path):
    found = spend(
        tmp_path, routed("a"), answered("a", WEAK, 500, 200), routed("b", STRONG), answered("b", STRONG, 5000, 1000)
    )
    assert found.spent.tolist() == pytest.approx([0.000195, 0.0225])
    assert found.all_strong.tolist() == pytest.approx([0.00325, 0.0225])
    assert found.second.tolist() == found.switch.tolist() == [0.0, 0.0]
    assert found.is_counted.all()


def test_net_saving_is_gross_less_second_answers_and_the_router(tmp_path: Path):
    both = routed("b", wants_both=True, pair_propensity=0.1)
    records = [
        routed("a"),
        answered("a", WEAK, 500, 200),
        both,
        answered("b", WEAK, 500, 200),
        answered("b", STRONG, 500, 200),
    ]
    found = savings(table_of(tmp_path, *records), Machine(cpu_s_per_decision=3.6, usd_per_core_hour=0.1))
    assert found.all_strong_usd == pytest.approx(2 * 0.00325)
    assert found.spent_usd == pytest.approx(2 * 0.000195 + 0.00325)
    assert found.second_usd == pytest.approx(0.00325)
    assert found.router_usd == pytest.approx(2 * 1e-4)
    assert found.saved_usd == pytest.approx(2 * 0.00325 - 2 * 0.000195 - 0.00325 - 2e-4)
    assert found.saved_share == pytest.approx(found.saved_usd / found.all_strong_usd)


def test_cached_tokens_cost_what_the_vendor_asks_and_all_strong_has_them_too(tmp_path: Path):
    found = spend(tmp_path, routed("a"), answered("a", WEAK, 4000, 100, cached=3000))
    assert found.spent.tolist() == pytest.approx([cost_usd(WEAK, 4000, 100, 3000)])
    assert found.all_strong.tolist() == pytest.approx([cost_usd(STRONG, 4000, 100, 3000)])


def test_a_switch_pays_for_a_cold_cache_that_all_strong_would_have_had_warm(tmp_path: Path):
    first = routed("1", STRONG, session_id="s")
    second = routed("2", WEAK, session_id="s", decided_s=NOON_S + 60)
    third = routed("3", STRONG, session_id="s", decided_s=NOON_S + 120)
    usage = [answered("1", STRONG, 2000, 100), answered("2", WEAK, 2200, 100), answered("3", STRONG, 2400, 100)]
    found = spend(tmp_path, third, first, second, *usage)
    at = {"1": 1, "2": 2, "3": 0}  # in the order of the log
    assert found.switch[at["1"]] == 0
    assert found.switch[at["2"]] == pytest.approx(cost_usd(WEAK, 2200, 100) - cost_usd(WEAK, 2200, 100, 1920))
    assert found.switch[at["3"]] == pytest.approx(cost_usd(STRONG, 2400, 100) - cost_usd(STRONG, 2400, 100, 2176))
    warm = [cost_usd(STRONG, 2000, 100), cost_usd(STRONG, 2200, 100, 1920), cost_usd(STRONG, 2400, 100, 2176)]
    assert [found.all_strong[at[name]] for name in "123"] == pytest.approx(warm)


@pytest.mark.parametrize(
    ("before", "turn", "expected"),
    [
        (turn(0, STRONG, 2000, 0), turn(9, WEAK, 2100, 0), 1920),
        (turn(0, STRONG, 1000, 0), turn(9, WEAK, 2100, 0), 0),
        (turn(0, STRONG, 2000, 0), turn(9, WEAK, 1900, 0), 0),
        (turn(0, STRONG, 2000, 0), turn(601, WEAK, 2100, 0), 0),
        (turn(0, STRONG, 2000, 0), turn(9, WEAK, 2100, 2048), 2048),
        (turn(0, WEAK, 2000, 0), turn(9, WEAK, 2100, 0), 0),
        (turn(0, WEAK, 2000, 0), turn(9, WEAK, 2100, 1920), 1920),
    ],
    ids=[
        "switch",
        "too short to cache",
        "does not go on",
        "too late",
        "still cached",
        "stayed uncached",
        "stayed cached",
    ],
)
def test_what_a_session_would_have_had_cached(before: Turn, turn: Turn, expected: int):
    assert warm_tokens([before, turn]) == [0, expected]


def test_without_an_outcome_a_request_stands_at_its_expected_cost(tmp_path: Path):
    found = spend(tmp_path, routed("a", weak_cost_usd=0.1, strong_cost_usd=0.9))
    assert (found.spent.tolist(), found.all_strong.tolist(), found.is_counted.tolist()) == ([0.1], [0.9], [False])


def test_a_caller_who_fell_back_paid_the_strong_model_and_saved_nothing(tmp_path: Path):
    found = spend(tmp_path, routed("a"), answered("a", STRONG, 500, 200))
    assert found.spent.tolist() == found.all_strong.tolist() == pytest.approx([0.00325])
    assert found.second.tolist() == [0.0]


def test_requests_without_a_price_are_counted_and_not_guessed(tmp_path: Path):
    found = spend(tmp_path, decision("a", model="small", other_model="big"), routed("b"), answered("b", WEAK, 500, 200))
    assert (found.n_unpriced, len(found.spent)) == (1, 1)


def test_strong_answers_are_as_much_longer_as_those_to_the_same_requests(tmp_path: Path):
    pairs = [routed(f"p{n}", wants_both=True, pair_propensity=0.5) for n in range(30)]
    usage = [answered(f"p{n}", model, 100, tokens) for n in range(30) for model, tokens in ((WEAK, 100), (STRONG, 150))]
    found = spend(tmp_path, *pairs, *usage, routed("a"), answered("a", WEAK, 100, 200))
    assert found.length_ratio == 1.5
    assert found.all_strong[-1] == pytest.approx(cost_usd(STRONG, 100, 300))


def test_prices_are_those_of_the_day(tmp_path: Path):
    long_ago_s = dt.datetime(2024, 8, 1, tzinfo=dt.UTC).timestamp()
    found = spend(tmp_path, routed("a", STRONG, decided_s=long_ago_s), answered("a", STRONG, 1_000_000, 0))
    assert found.spent.tolist() == pytest.approx([5.0])


def test_days_are_those_asked_for_both_ends_included(tmp_path: Path):
    records = [
        routed(str(age), decided_s=NOON_S - age * DAY_S, weak_cost_usd=0.1, strong_cost_usd=1) for age in range(4)
    ]
    table = table_of(tmp_path, *records)
    found: Savings = savings(between(table, dt.date(2026, 11, 19), dt.date(2026, 11, 20)), FREE)
    assert (found.requests, found.first, found.last) == (2, dt.date(2026, 11, 19), dt.date(2026, 11, 20))
    assert found.saved_usd == pytest.approx(1.8)
    assert between(table, None, None).num_rows == 4
    with pytest.raises(DataRefused, match="the log has 2026-11-18 to 2026-11-21"):
        between(table, dt.date(2025, 1, 1), dt.date(2025, 1, 2))


def test_quality_of_what_was_served_is_told_against_a_strong_model_that_mostly_was_not_asked():
    world = World(rate=0.1, both=0.05)
    rows = world.log(6000, seed=21)
    found = quality(rows)
    _, chance = world._drawn(6000, seed=21)
    tier = np.where(rows.is_weak, 0, 1)
    served = chance[np.arange(len(rows)), tier].mean()
    assert found.score.low < served < found.score.high
    assert found.score_lost.low < chance[:, 1].mean() - served < found.score_lost.high
    worse = (rows.is_weak * (1 - chance[:, 0]) * chance[:, 1]).mean()
    assert found.made_worse.low < worse < found.made_worse.high
    assert found.unknown == 0
    assert 0.75 < found.judged < 0.85


def test_without_exploration_nothing_is_claimed_of_the_strong_models_quality():
    found = quality(World(rate=0.0, both=0.0).log(200, seed=4))
    assert (found.pairs, found.made_worse) == (0, None)
    assert found.unknown > 0
    assert found.score_lost.value == pytest.approx(0.0)  # of the requests that were strong


def with_certain(rows: LoggedRows, *, weak: bool) -> LoggedRows:
    """Return the rows, and as many again that a rule sent to one tier without any chance of the other."""
    n, tier = len(rows), np.array([weak, not weak])
    ruled = replace(
        rows,
        session=rows.session + rows.session.max() + 1,
        taken=np.full(n, 0 if weak else 1),
        asked=np.tile(tier, (n, 1)),
        propensity=np.tile(tier.astype(np.float64), (n, 1)),
        pair_propensity=np.zeros(n),
        score=np.where(tier, 0.0, np.nan) + np.zeros((n, 2)),
    )
    names = [field.name for field in fields(rows) if field.name != "tries"]
    both = {name: np.concatenate([getattr(one, name) for one in (rows, ruled)]) for name in names}
    return LoggedRows(**both, tries=LoggedTries.none(2 * n))


def test_requests_that_a_rule_sent_weak_are_not_among_those_said_to_be_no_worse():
    rows = World(rate=0.1, both=0.2).log(2000, seed=5)
    alone = quality(rows)
    ruled_weak, ruled_strong = (quality(with_certain(rows, weak=weak)) for weak in (True, False))
    assert (alone.unpaired, ruled_weak.unpaired, ruled_strong.unpaired) == (0, len(rows), 0)
    assert ruled_weak.made_worse == alone.made_worse
    assert ruled_strong.made_worse.value == pytest.approx(alone.made_worse.value / 2)
    assert ruled_strong.made_worse.high == pytest.approx(alone.made_worse.high / 2)


def test_none_made_worse_among_few_pairs_is_no_proof_of_none():
    rows = World(rate=0.1, both=0.2).log(300, seed=6)
    rows = replace(rows, score=np.where(np.isnan(rows.score), np.nan, 1.0))
    found = quality(rows)
    n_sessions = len(np.unique(rows.session[rows.asked.all(axis=1) & ~np.isnan(rows.score).any(axis=1)]))
    assert (found.made_worse.value, found.made_worse.low) == (0.0, 0.0)
    assert found.made_worse.high == pytest.approx(scipy.stats.beta.ppf(0.975, 1, n_sessions))
