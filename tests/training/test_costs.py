"""What requests cost, from usage where it was logged."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.prices import cost_usd
from turnout.serving.router.prompt import prompt_from_text
from turnout.training.dataset.costs import CostsUnknown, RequestCosts, request_costs
from turnout.training.logs.records import Record, Response

LOGGED = (Response("yes", None, 500, 200), Response("no", None, 510, 100))


def record(strong: Response | None, weak: Response | None, text: str = "x" * 400) -> Record:
    return Record("1", prompt_from_text(text), text, strong, weak)


def known(*records: Record) -> RequestCosts:
    costs = request_costs(records, Pair())
    assert isinstance(costs, RequestCosts)
    return costs


def test_logged_usage_is_priced_as_the_vendor_counted_it():
    costs = known(record(*LOGGED))
    assert costs.strong[0] == pytest.approx(cost_usd("gpt-4o", 500, 200))
    assert costs.weak[0] == pytest.approx(cost_usd("gpt-4o-mini", 510, 100))


@pytest.mark.parametrize("weak", [Response("b" * 41), Response("b" * 41, None, 500), Response("b" * 41, None, -1, 1)])
def test_without_usage_of_both_a_row_is_estimated_at_four_bytes_a_token(weak: Response):
    costs = known(record(Response("a" * 80, None, 7, 7), weak))
    assert costs.strong[0] == pytest.approx(cost_usd("gpt-4o", 100, 20))
    assert costs.weak[0] == pytest.approx(cost_usd("gpt-4o-mini", 100, 11))


def test_bytes_are_counted_not_characters():
    costs = known(record(Response("\u00fc" * 40), Response(""), text="\u65e5" * 40))
    assert costs.strong[0] == pytest.approx(cost_usd("gpt-4o", 30, 20))


def test_rows_without_answers_are_unknown_and_left_out_of_the_mean():
    costs = known(record(*LOGGED), record(*LOGGED), record(Response(None, 1.0), LOGGED[1]), record(None, LOGGED[1]))
    assert costs.is_known.tolist() == [True, True, False, False]
    assert np.isnan(costs.weak[2:]).all()
    weak = np.array([True, False, True, True])
    assert costs.usd_per_1k(weak) == pytest.approx(500 * (costs.weak[0] + costs.strong[1]))


def test_too_few_known_rows_give_a_reason_in_place_of_a_mean():
    scores_only = record(Response(None, 1.0), Response(None, 0.0))
    assert request_costs([record(*LOGGED), scores_only, scores_only], Pair()) == CostsUnknown(
        "1 of 3 rows hold usage or text of both answers, half are needed"
    )
    assert isinstance(request_costs([], Pair()), CostsUnknown)


def test_model_without_a_price_gives_the_reason():
    costs = request_costs([record(*LOGGED)], Pair("big", "gpt-4o-mini"))
    assert isinstance(costs, CostsUnknown)
    assert "no price for model 'big'" in costs.reason
