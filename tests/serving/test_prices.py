"""Prices give the figures that people know of the pair."""

from __future__ import annotations

from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.serving.bundles.manifest import Pair
from turnout.serving.cli.app import run
from turnout.serving.cli.doctor.models import check_prices
from turnout.serving.decision.costs import PairPrices
from turnout.serving.decision.prices import OWN_LIST, PRICES, cost_usd, load_prices, read_prices
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
        read_prices(path)
    assert str(path) in str(refused.value)


def test_absent_list_is_refused(tmp_path: Path):
    with pytest.raises(PricesRefused, match=r"none\.toml: cannot be read: No such file"):
        read_prices(tmp_path / "none.toml")


def test_every_packaged_price_is_ascending_and_covers_the_default_pair():
    prices = read_prices(PRICES).prices
    assert [price.since for price in prices] == sorted(price.since for price in prices)
    assert {"gpt-4o", "gpt-4o-mini"} <= {price.model for price in prices}


MAP = {
    "sample_spec": {"mode": "one of chat, embedding"},
    "gpt-4o": {"input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6, "cache_read_input_token_cost": 1e-6},
    "o9-mini": {"input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6, "output_cost_per_token_batches": 2e-6},
    "painter": {"output_cost_per_image": 0.04},
}


@pytest.fixture
def own_list(tmp_path, monkeypatch):
    def use(text: str, name: str = "own.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        monkeypatch.setenv(OWN_LIST, str(path))
        return path

    return use


def test_own_list_stands_above_ours_model_by_model(own_list):
    own_list(ENTRY.replace('"a"', '"gpt-4o"') + ENTRY)
    assert cost_usd("gpt-4o", 1_000_000, 0) == 1
    assert cost_usd("a", 0, 1_000_000) == 2
    assert cost_usd("gpt-4o-mini", 1_000_000, 0) == pytest.approx(0.15)
    with pytest.raises(PriceUnknown, match="'gpt-4o' on 2023-12-31"):  # ours of that model are gone
        cost_usd("gpt-4o", 1, 1, on=date(2023, 12, 31))
    assert load_prices().own == {"a", "gpt-4o"}


def test_own_list_in_another_currency_is_turned_into_usd(own_list):
    own_list('currency = "EUR"\nusd_per_unit = 1.25\n' + ENTRY + "cached_input = 0.4\n")
    assert cost_usd("a", 1_000_000, 0, 1_000_000) == pytest.approx(0.5)
    assert cost_usd("a", 0, 1_000_000) == pytest.approx(2.5)


def test_amounts_of_another_currency_need_its_worth(own_list):
    path = own_list('currency = "EUR"\n' + ENTRY)
    with pytest.raises(PricesRefused, match="usd_per_unit"):
        load_prices()
    with pytest.raises(PricesRefused, match=str(path)):
        cost_usd("gpt-4o", 1, 1)


def test_price_map_of_litellm_is_read_and_holds_for_all_days(own_list):
    own_list(msgspec.json.encode(MAP).decode(), "map.json")
    assert cost_usd("gpt-4o", 1_000_000, 0, 1_000_000, on=date(2020, 1, 1)) == pytest.approx(1)
    assert cost_usd("o9-mini-2026-01-02", 1_000_000, 1_000_000) == pytest.approx(5)
    with pytest.raises(PriceUnknown, match="'painter'"):
        cost_usd("painter", 1, 1)


@pytest.mark.parametrize("text", ["[]", "{}", '{"a": {"input_cost_per_token": -1, "output_cost_per_token": 1}}', "{"])
def test_damaged_price_map_is_refused(own_list, text: str):
    path = own_list(text, "map.json")
    with pytest.raises(PricesRefused, match=str(path)):
        load_prices()


def test_commands_show_and_check_prices(own_list, capsys):
    path = own_list(msgspec.json.encode(MAP).decode(), "map.json")
    run(["prices", "show", "gpt-4o", "gpt-4o-mini-2024-07-18", "--json"])
    shown = msgspec.json.decode(capsys.readouterr().out)
    assert {(one["price"]["model"], one["is_own"]) for one in shown} == {("gpt-4o", True), ("gpt-4o-mini", False)}
    run(["prices", "check", str(path), "--json"])
    told = msgspec.json.decode(capsys.readouterr().out)
    assert (told["prices"], told["models"], told["replaces"]) == (2, 2, ["gpt-4o"])
    run(["prices", "show"])
    assert "yours" in capsys.readouterr().out


def test_option_names_a_list_for_any_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(OWN_LIST, "")
    path = tmp_path / "own.toml"
    path.write_text(ENTRY)
    run(["prices", "show", "a", "--prices", str(path), "--json"])
    assert msgspec.json.decode(capsys.readouterr().out)[0]["is_own"]


def test_pair_without_a_price_is_said_once_and_costs_nothing_known(caplog):
    pair = Pair(weak="home-made-7b", strong="gpt-4o")
    for _ in range(2):
        costs = PairPrices.of(pair).expected_costs(100)
    assert costs.weak_usd is None
    assert costs.strong_usd > 0
    assert [record.getMessage().count("home-made-7b") for record in caplog.records] == [1]
    assert "routed all the same" in caplog.text


def test_doctor_says_which_prices_hold(own_list):
    assert check_prices(Pair()).level == "ok"
    assert "yours" not in check_prices(Pair()).found
    assert check_prices(Pair(weak="home-made-8b")).level == "warn"
    path = own_list(ENTRY.replace('"a"', '"gpt-4o"'))
    assert "gpt-4o 1 in, 2 out (yours)" in check_prices(Pair()).found
    own_list(ENTRY.replace("input = 1", ""), "other.toml")
    assert check_prices(Pair()).level == "fail"
    assert path.exists()


def test_what_a_model_thinks_is_billed_and_more_so_at_a_higher_effort(tmp_path: Path):
    path = tmp_path / "own.toml"
    path.write_text(
        '[[prices]]\nmodel = "o3"\nsince = 2025-06-10\ninput = 2.0\noutput = 8.0\nreasoning_tokens = 399.5\n'
        "effort = {high = 3.0}\ncontext_window = 200000\n"
    )
    (price,) = read_prices(path).prices
    assert (price.expected_tokens(10), price.expected_tokens(10, "low"), price.expected_tokens(0.5, "high")) == (
        410,
        410,
        1200,
    )
    assert price.context_window == 200_000
    path.write_text(path.read_text().replace("3.0}", "0}"))
    with pytest.raises(PricesRefused):
        read_prices(path)
