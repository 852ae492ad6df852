"""Prices give the figures that people know of the pair."""

from __future__ import annotations

from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.serving.decision.prices import PRICES, cost_usd, load_prices
from turnout.serving.errors import PricesRefused, PriceUnknown

TOKENS = st.integers(0, 10**7)
ENTRY = '[[prices]]\nmodel = "a"\nsince = 2024-01-01\ninput = 1\noutput = 2\n'


def as_published(cost: float) -> str:
    """Four places, half to even: 0.00325 was published as 0.0032, 0.00135 as 0.0014."""
    return str(Decimal(f"{cost:.9f}").quantize(Decimal("0.0001"), ROUND_HALF_EVEN))


@pytest.mark.parametrize(
    ("prompt_tokens", "completion_tokens", "strong", "weak"),
    [
        (500, 200, "0.0032", "0.0002"),
        (5_000, 1_000, "0.0225", "0.0014"),
        (50_000, 4_000, "0.1650", "0.0099"),
    ],
)
def test_published_figures_of_the_pair(prompt_tokens: int, completion_tokens: int, strong: str, weak: str):
    assert as_published(cost_usd("gpt-4o", prompt_tokens, completion_tokens)) == strong
    assert as_published(cost_usd("gpt-4o-mini", prompt_tokens, completion_tokens)) == weak


@given(TOKENS, TOKENS)
def test_strong_costs_16_7_times_the_weak_whatever_the_mix(prompt_tokens: int, completion_tokens: int):
    weak = cost_usd("gpt-4o-mini", prompt_tokens, completion_tokens)
    assert cost_usd("gpt-4o", prompt_tokens, completion_tokens) == pytest.approx(weak * 50 / 3)


def test_ten_million_input_tokens_a_day_cost_50_at_launch_and_25_today():
    assert cost_usd("gpt-4o", 10_000_000, 0, on=date(2024, 6, 1)) == pytest.approx(50)
    assert cost_usd("gpt-4o", 10_000_000, 0) == pytest.approx(25)
    assert cost_usd("gpt-4o-mini", 10_000_000, 0) == pytest.approx(1.5)


def test_cached_tokens_cost_half_and_as_much_as_others_before_there_was_a_discount():
    assert cost_usd("gpt-4o", 1_000_000, 0, 1_000_000) == pytest.approx(1.25)
    assert cost_usd("gpt-4o-mini", 1_000_000, 1_000_000, 400_000) == pytest.approx(0.6 * 0.15 + 0.4 * 0.075 + 0.6)
    assert cost_usd("gpt-4o", 1_000_000, 0, 1_000_000, on=date(2024, 6, 1)) == pytest.approx(5)


@pytest.mark.parametrize(
    ("snapshot", "model"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-20241120", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
    ],
)
def test_snapshot_answers_to_its_models_price(snapshot: str, model: str):
    assert cost_usd(snapshot, 500, 200) == cost_usd(model, 500, 200)


def test_first_snapshot_kept_its_launch_price():
    assert cost_usd("gpt-4o-2024-05-13", 1_000_000, 1_000_000) == pytest.approx(20)


@pytest.mark.parametrize("model", ["gpt-5", "", "gpt-4o-audio", "GPT-4o", "2024-08-06"])
def test_unknown_model_is_refused_by_name_with_those_known(model: str):
    with pytest.raises(PriceUnknown, match=f"no price for model '{model}'; known: gpt-4o, .*gpt-4o-mini"):
        cost_usd(model, 1, 1)


def test_day_before_the_launch_has_no_price():
    with pytest.raises(PriceUnknown, match="'gpt-4o-mini' on 2024-07-17"):
        cost_usd("gpt-4o-mini", 1, 1, on=date(2024, 7, 17))


@pytest.mark.parametrize("tokens", [(-1, 0, 0), (0, -1, 0), (10, 0, 11), (10, 0, -1)])
def test_impossible_counts_are_refused(tokens: tuple[int, int, int]):
    with pytest.raises(ValueError, match="expected 0 <= cached <= prompt tokens"):
        cost_usd("gpt-4o", *tokens)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY.replace("input = 1", "input = -1"), r"Expected `float` >= 0.*prices\[0\]\.input"),
        (ENTRY.replace("output = 2\n", ""), "missing required field `output`"),
        (ENTRY + "cache = 1\n", "unknown field `cache`"),
        (ENTRY + ENTRY, "two prices for 'a' since 2024-01-01"),
        ("prices = [", "not a price list"),
        ("\udcff", "not a price list"),
    ],
)
def test_damaged_list_is_refused_by_file_and_field(tmp_path: Path, text: str, message: str):
    path = tmp_path / "prices.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(PricesRefused, match=message) as refused:
        load_prices(path)
    assert str(path) in str(refused.value)


def test_absent_list_is_refused(tmp_path: Path):
    with pytest.raises(PricesRefused, match=r"none\.toml: cannot be read: No such file"):
        load_prices(tmp_path / "none.toml")


def test_every_packaged_price_is_ascending_and_covers_the_default_pair():
    prices = load_prices(PRICES).prices
    assert [price.since for price in prices] == sorted(price.since for price in prices)
    assert {"gpt-4o", "gpt-4o-mini"} <= {price.model for price in prices}
