"""Expected costs of both tiers, with the caches of the session."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.costs import ExpectedCosts, PairPrices
from turnout.serving.decision.prices import cost_usd
from turnout.serving.decision.routes import Route, estimated_tokens

DEFAULT = PairPrices.of(Pair())
NEAR = PairPrices.of(Pair(strong="gpt-4o", weak="gpt-4o-2024-05-13"))
"""A "weak" model that costs twice the strong one: where a switch never saves."""
COUNTS = st.integers(0, 10**6)


def test_a_switch_pays_for_the_cold_cache():
    """8,000 tokens of which 6,000 are cached at gpt-4o, 200 out: by hand from the price list."""
    costs = DEFAULT.expected_costs(8000, None, 6000, Route.STRONG)
    assert costs.strong_usd == pytest.approx((2000 * 2.5 + 6000 * 1.25 + 200 * 10) / 1e6)
    assert costs.weak_usd == pytest.approx((8000 * 0.15 + 200 * 0.6) / 1e6)
    staying = DEFAULT.expected_costs(8000, None, 6000, Route.WEAK)
    assert staying.strong_usd == pytest.approx((8000 * 2.5 + 200 * 10) / 1e6)
    assert staying.weak_usd == pytest.approx((2000 * 0.15 + 6000 * 0.075 + 200 * 0.6) / 1e6)


@given(COUNTS, COUNTS, COUNTS, st.sampled_from([None, *Route]))
def test_costs_are_those_of_the_price_list(prompt: int, output: int, cached: int, previous: Route | None):
    costs = DEFAULT.expected_costs(prompt, output, cached, previous)
    warm = min(prompt, cached)
    assert costs.weak_usd == cost_usd("gpt-4o-mini", prompt, output, warm if previous is Route.WEAK else 0)
    assert costs.strong_usd == cost_usd("gpt-4o", prompt, output, warm if previous is Route.STRONG else 0)


@given(COUNTS, COUNTS, COUNTS, st.sampled_from([None, *Route]))
def test_the_default_pair_always_saves_by_switching_and_a_dear_weak_model_never(
    prompt: int, output: int, cached: int, previous: Route | None
):
    has_tokens = prompt + output > 0
    assert DEFAULT.expected_costs(prompt, output, cached, previous).weak_saves is has_tokens
    assert NEAR.expected_costs(prompt, output, 0, previous).weak_saves is False


def test_without_a_price_the_cost_is_unknown():
    half = PairPrices.of(Pair(strong="gpt-4o", weak="own-model")).expected_costs(100)
    assert half.weak_usd is None
    assert half.strong_usd == cost_usd("gpt-4o", 100, 200)
    assert half.weak_saves is None
    assert ExpectedCosts(None, None).weak_saves is None


@pytest.mark.parametrize("counts", [(-1, 0, 0), (0, -1, 0), (10, 0, -1)])
def test_negative_counts_are_refused(counts: tuple[int, int, int]):
    with pytest.raises(ValueError, match="no negative count"):
        DEFAULT.expected_costs(*counts, Route.STRONG)


@given(st.text())
def test_tokens_are_estimated_as_a_quarter_of_the_bytes_rounded_up(text: str):
    assert 4 * estimated_tokens(text) - 3 <= len(text.encode()) <= 4 * estimated_tokens(text) or not text
