"""The rule over the rungs of a ladder: who answers, who may, and how probable that was; of two it is the pair's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.serving.bundles.ladder import rung_of
from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.costs import ExpectedCosts, LadderPrices, PairPrices
from turnout.serving.decision.prices import OWN_LIST
from turnout.serving.decision.routes import Reason, Route
from turnout.serving.decision.rules.climbing import Climb
from turnout.serving.decision.rules.exploring import After
from turnout.serving.decision.rules.offering import Asking, Offered, RungLimits
from turnout.serving.decision.rules.rules import Before, Facts, Rules
from turnout.serving.decision.rules.spec import ExplorationSpec, ModelSpec, RulesSpec, SessionSpec
from turnout.serving.decision.rungs import Bar, ruled_place, rung_for, rungs_of_pair
from turnout.serving.router.prompt import Prompt, prompt_from_text

FOUR = tuple(map(rung_of, ("gpt-4o-mini", "gpt-4o", "o3:low", "o3:high")))
NAMES = tuple((rung.name, rung.model) for rung in FOUR)
BAR = Bar((0.7, 0.9), (0.8, 0.8))
UNLIMITED = (float("inf"),) * 4
TEXT = prompt_from_text("hello")


def offered(*places: int, why: Reason = Reason.CAPABILITY) -> Offered:
    return Offered(places, {place: why for place in range(4) if place not in places})


@pytest.mark.parametrize(
    ("bar", "goes_first", "is_unlike", "may", "place", "moved"),
    [
        (BAR, True, False, None, 0, None),
        (BAR, False, False, None, 2, None),
        (Bar((0.8, 0.9), (0.8, 0.8)), False, False, None, 1, None),
        (Bar((0.7, 0.7), (0.8, 0.8)), False, False, None, 3, None),
        (BAR, False, True, None, 3, None),
        # what is not offered: the cheapest that is, and that the policy allows
        (BAR, True, False, offered(1, 2, 3), 2, Reason.CAPABILITY),
        (BAR, True, False, offered(1, 3, why=Reason.TOO_LONG), 3, Reason.TOO_LONG),
        (BAR, False, False, offered(0, 1, 3), 3, Reason.CAPABILITY),
        # none that the policy allows: nearest to the top; none at all: the top
        (BAR, False, True, offered(0, 1), 1, Reason.CAPABILITY),
        (BAR, True, False, offered(1, why=Reason.RULE), 1, Reason.RULE),
        (BAR, True, False, offered(), 3, Reason.CAPABILITY),
    ],
)
def test_the_cheapest_rung_that_may_and_that_the_policy_allows(
    bar: Bar, goes_first: bool, is_unlike: bool, may: Offered | None, place: int, moved: Reason | None
):
    found = rung_for(FOUR, bar, goes_first=goes_first, is_unlike=is_unlike, offered=may)
    assert found == (place, moved)


@pytest.mark.parametrize(
    ("before", "may", "place", "moved"),
    [
        (Before(route=Route.WEAK), None, 0, None),
        (Before(route=Route.STRONG), None, 3, None),
        (Before(route=Route.STRONG, rung="o3:low"), None, 2, None),
        (Before(route=Route.STRONG, rung="of another bundle"), None, 3, None),
        (Before(route=Route.STRONG, rung="gpt-4o"), offered(0, 2, 3), 2, Reason.CAPABILITY),
        (Before(route=Route.STRONG), offered(0, 1), 1, Reason.CAPABILITY),
        (Before(route=Route.STRONG, reason=Reason.TOO_LONG), offered(), 3, None),
        (Before(route=Route.WEAK), offered(), 3, Reason.CAPABILITY),
    ],
)
def test_a_rule_names_a_rung_and_the_nearest_above_stands_in(
    before: Before, may: Offered | None, place: int, moved: Reason | None
):
    assert ruled_place(FOUR, before, may) == (place, moved)


@pytest.mark.parametrize(
    ("models", "prompt", "places"),
    [
        ({}, TEXT, None),
        ({"o3": ModelSpec(images=False)}, TEXT, None),
        ({"o3": ModelSpec(images=False)}, Prompt("what is it?", images=1), (0, 1)),
        ({"o3": ModelSpec(images=False)}, Prompt("look", embedded_images=1), (0, 1)),
        ({"o3": ModelSpec(images=False), "o3:high": ModelSpec()}, Prompt("what is it?", images=1), (0, 1, 3)),
        ({"gpt-4o-mini": ModelSpec(tools=False)}, Prompt("what time is it?", tools=2), (1, 2, 3)),
        ({"gpt-4o": ModelSpec(json_schema=False)}, Prompt("as JSON", wants_json=True), (0, 2, 3)),
        ({"gpt-4o": ModelSpec(audio=False)}, Prompt("listen", audio=1), (0, 2, 3)),
        ({"gpt-4o-mini": ModelSpec(scripts=("latin", "Cyrillic"))}, prompt_from_text("Почему небо голубое?"), None),
        ({"gpt-4o-mini": ModelSpec(scripts=("Latin",))}, prompt_from_text("空はなぜ青いのですか"), (1, 2, 3)),
        ({"gpt-4o-mini": ModelSpec(scripts=("Latin",))}, prompt_from_text("1 + 1 = ?"), None),
    ],
)
def test_what_a_model_cant_do_is_not_offered(
    models: dict[str, ModelSpec], prompt: Prompt, places: tuple[int, ...] | None
):
    found = RungLimits.of(NAMES, UNLIMITED, models).offered(Asking(prompt, 100))
    assert (None if found is None else found.places) == places
    assert found is None or set(found.refused.values()) == {Reason.CAPABILITY}


def test_length_is_that_of_the_price_list_unless_the_file_says_less_or_another():
    windows = (128_000.0, 128_000.0, 200_000.0, 200_000.0)
    models = {"gpt-4o-mini": ModelSpec(max_estimated_tokens=30_000), "gpt-4o": ModelSpec(context_window=1_000_000)}
    limits = RungLimits.of(NAMES, windows, models)
    for tokens, places in ((30_000, None), (30_001, (1, 2, 3)), (200_001, (1,)), (1_000_001, ())):
        found = limits.offered(Asking(TEXT, tokens))
        assert (None if found is None else found.places) == places
        assert found is None or set(found.refused.values()) == {Reason.TOO_LONG}


def test_a_list_names_rungs_or_models_whatever_the_effort():
    limits = RungLimits.of(NAMES, UNLIMITED, {})
    for allow, places in ((("o3:high",), (3,)), (("o3",), (2, 3)), (("gpt-4o-mini", "o3:*"), (0, 2, 3))):
        found = limits.offered(Asking(TEXT, 10, allow))
        assert found is not None
        assert found.places == places
        assert set(found.refused.values()) == {Reason.RULE}


def test_a_rung_is_priced_by_its_model_and_a_pair_as_before():
    usd = LadderPrices.of(FOUR).expected_usd(1000, 100, 400, 1)
    costs = PairPrices.of(Pair()).expected_costs(1000, 100, 400, Route.STRONG)
    assert usd[:2] == (costs.weak_usd, costs.strong_usd)


SPECS = st.builds(
    lambda salt, rate, both, least, stay, count: RulesSpec(
        salt=salt,
        session=SessionSpec(stay_strong=stay, count_switch_cost=count),
        exploration=ExplorationSpec(rate=rate, both=both, min_p_match=least),
    ),
    st.text("abc", max_size=3),
    st.sampled_from((0.0, 0.1, 0.5)),
    st.sampled_from((0.0, 0.3, 1.0)),
    st.sampled_from((0.0, 0.5)),
    st.booleans(),
    st.booleans(),
)
USD = st.sampled_from((None, 0.001, 0.01, 0.1))


@given(
    SPECS,
    st.sampled_from(Route),
    st.sampled_from((Reason.MODEL, Reason.OUT_OF_DISTRIBUTION)),
    st.floats(0, 1),
    USD,
    USD,
    st.sampled_from((None, *Route)),
    st.text("xyz0123456789", max_size=6),
)
def test_of_two_rungs_sessions_and_exploration_are_those_of_the_pair(
    spec: RulesSpec,
    route: Route,
    reason: Reason,
    p: float,
    weak: float | None,
    strong: float | None,
    previous: Route | None,
    key: str,
):
    rules, facts = Rules(spec), Facts(TEXT, request_id=key, previous=previous)
    asked = facts, Before(), route, p, ExpectedCosts(weak, strong), reason
    places = {Route.WEAK: 0, Route.STRONG: 1}
    climb = Climb(places[route], (p,), (weak, strong), (0, 1), None if previous is None else places[previous])
    expected, found = rules.after(*asked), rules.after(*asked, climb=climb)
    assert found.place == places[expected.route]
    assert found.other == (1 - found.place if expected.wants_both else -1)
    assert _told(found) == pytest.approx(_told(expected))


def _told(after: After) -> dict[str, Any]:
    told = msgspec.structs.asdict(msgspec.structs.replace(after, place=-1, other=-1, drawn=None))
    return {name: value for name, value in told.items() if value is not None}


def climbs(rules: Rules, climb: Climb, n: int = 4000) -> list[After]:
    costs = ExpectedCosts(climb.usd[0], climb.usd[-1])
    return [
        rules.after(Facts(TEXT, request_id=str(key)), Before(), Route.STRONG, climb.p[0], costs, climb=climb)
        for key in range(n)
    ]


def test_propensities_over_rungs_are_those_of_the_draws():
    rules = Rules(RulesSpec(salt="s", exploration=ExplorationSpec(rate=0.3, both=0.5, min_p_match=0.4)))
    climb = Climb(2, (0.3, 0.6, 0.9), (0.001, 0.01, 0.02, 0.1), (0, 1, 2, 3))
    afters = climbs(rules, climb)
    taken = Counter(after.place for after in afters)
    assert taken.keys() == {1, 2, 3}  # the first is below min_p_match
    for place, share in ((1, 0.15), (2, 0.7), (3, 0.15)):
        assert taken[place] / len(afters) == pytest.approx(share, abs=0.025)
        assert all(after.route_propensity == pytest.approx(share) for after in afters if after.place == place)
    pairs = Counter(frozenset((after.place, after.other)) for after in afters if after.wants_both)
    assert all(3 in pair for pair in pairs)
    for pair, n in pairs.items():
        (said,) = {
            round(after.pair_propensity, 9)
            for after in afters
            if after.wants_both and frozenset((after.place, after.other)) == pair
        }
        assert n / len(afters) == pytest.approx(said, abs=0.025)
    drawn = afters[0].drawn
    assert drawn is not None
    assert {after.drawn for after in afters} == {drawn}  # what stands before any draw
    assert (drawn.chosen, drawn.both, drawn.take) == (2, 0.5, pytest.approx((0.0, 0.15, 0.7, 0.15)))
    asked = Counter(place for after in afters for place in {after.place, after.other} - {-1})
    assert [asked[place] / len(afters) for place in range(4)] == pytest.approx(drawn.ask, abs=0.025)


def test_nothing_is_explored_to_what_is_not_offered():
    rules = Rules(RulesSpec(exploration=ExplorationSpec(rate=0.5, both=1.0)))
    climb = Climb(3, (0.5, 0.5, 0.5), (0.001, 0.01, 0.02, 0.1), (1, 3))
    afters = climbs(rules, climb, 400)
    assert {after.place for after in afters} == {1, 3}
    assert {after.other for after in afters} == {1, 3}


def test_a_session_does_not_go_down_to_what_would_cost_as_much():
    rules = Rules(RulesSpec())
    facts = Facts(TEXT, previous_rung="o3:low")
    cheap, warm = Climb(1, (0.1,) * 3, (0.1, 0.2, 0.3, 0.9), (0, 1, 2, 3), 2), (0.1, 0.4, 0.3, 0.9)
    costs = ExpectedCosts(None, None)
    assert rules.after(facts, Before(), Route.STRONG, 0.1, costs, climb=cheap).place == 1
    stays = rules.after(facts, Before(), Route.STRONG, 0.1, costs, climb=msgspec.structs.replace(cheap, usd=warm))
    assert (stays.place, stays.reason) == (2, Reason.SESSION)


def test_thinking_is_billed_by_effort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    own = tmp_path / "prices.toml"
    own.write_text(
        '[[prices]]\nmodel = "o3"\nsince = 2025-06-10\ninput = 2\noutput = 8\n'
        "reasoning_tokens = 300\neffort = { low = 0.5, high = 3 }\ncontext_window = 200000\n"
    )
    monkeypatch.setenv(OWN_LIST, str(own))
    prices = LadderPrices.of(FOUR)
    usd = prices.expected_usd(1000, 100)
    assert usd[2:] == pytest.approx(((1000 * 2 + 200 * 8) / 1e6, (1000 * 2 + 1200 * 8) / 1e6))
    assert prices.windows[2:] == (200_000, 200_000)
    costs = PairPrices.of(Pair(strong="o3:high", weak="gpt-4o-mini")).expected_costs(1000, 100)
    assert (costs.weak_usd, costs.strong_usd) == (usd[0], usd[3])


def test_a_pair_is_the_ladder_of_two():
    assert [(rung.model, rung.effort) for rung in rungs_of_pair(Pair(strong="o3:high", weak="o3-mini"))] == [
        ("o3-mini", ""),
        ("o3", "high"),
    ]
