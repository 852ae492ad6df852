"""A trial of rules on a ladder names the rung that would answer, with one look and with two, as the server would."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.builders import LADDER_NAMES
from tests.checkers import with_second_look
from tests.log_builders import record
from tests.running import server_in_loop
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.client import AnswerItem, AsyncRouter
from turnout.serving.decision.costs import LadderPrices
from turnout.serving.decision.rules import Rules
from turnout.serving.decision.rules.reading import decode_rules
from turnout.training.logs.records import Record, Response
from turnout.training.offpolicy.rules_trial import RulesTrial, try_rules
from turnout.training.offpolicy.trial_arm import Arm
from turnout.training.offpolicy.trial_looks import TrialLooks

SHORT, MIDDLE, LONG, STRANGE = "hello", "word " * 20, "word " * 400, "a + b"
TEXTS = (SHORT, MIDDLE, LONG, STRANGE)
SURE, UNSURE = (-0.001,) * 3, (-2.0,) * 3
MINI, FULL, TOP = LADDER_NAMES
RULES = """
[[rules]]
name = "drafts"
tasks = ["draft"]
rung = "gpt-4o"
[[rules]]
name = "no top"
tenants = ["thrifty"]
allow = ["gpt-4o*"]
[[rules]]
name = "ends"
tenants = ["ends"]
allow = ["gpt-4o-mini", "o3"]
"""
CALLERS: tuple[dict[str, str], ...] = ({}, {"task": "draft"}, {"tenant": "thrifty"}, {"tenant": "ends"})


@pytest.fixture(scope="module")
def ladder(ladder_bundle_folder: Path) -> Bundle:
    return load_bundle(ladder_bundle_folder)


def rules_of(toml: str) -> Rules:
    return Rules(decode_rules(toml.encode(), "test"))


def served(bundle: Bundle, tmp_path: Path, *, logprobs: tuple[float, ...] | None = None) -> list[str]:
    """Return the rung that answers in the end for each caller and text, as a server says it."""
    (tmp_path / "rules.toml").write_text(RULES)

    async def run() -> list[str]:
        found = []
        async with (
            server_in_loop(bundle, rules=tmp_path / "rules.toml") as (_, address),
            AsyncRouter(address, timeout_s=60, strong_model=TOP) as router,
        ):
            for caller in CALLERS:
                for text in TEXTS:
                    item: dict[str, Any] = {"text": text, "can_check": logprobs is not None, **caller}
                    routed = await router.route(**item)
                    rung = routed.rung
                    if routed.action == "try":
                        answer = AnswerItem(text="Paris.", token_logprobs=list(logprobs or ()))
                        rung = (await router.check(answer, routed, **item)).rung
                    found.append(rung or routed.model)
        return found

    return asyncio.run(run())


def records(logprobs: tuple[float, ...] | None = None) -> list[Record]:
    weak = None if logprobs is None else Response("Paris.", token_logprobs=logprobs)
    return [
        record(text, id=f"{number}-{place}", **caller)
        if weak is None
        else _with(weak, text, f"{number}-{place}", caller)
        for number, caller in enumerate(CALLERS)
        for place, text in enumerate(TEXTS)
    ]


def _with(weak: Response, text: str, row: str, caller: dict[str, str]) -> Record:
    return dataclasses.replace(record(text, id=row, **caller), weak=weak)


@pytest.mark.parametrize("logprobs", [None, SURE, UNSURE])
def test_a_trial_names_the_rung_that_the_server_would_have_answer(
    ladder: Bundle, tmp_path: Path, logprobs: tuple[float, ...] | None
):
    bundle = ladder if logprobs is None else with_second_look(ladder, t_rungs=(0.8,))
    arm = Arm(rules_of(RULES), [bundle], can_check=logprobs is not None)
    found = [arm.outcome(one, TrialLooks(one, early_exit=True)).rung for one in records(logprobs)]
    assert found == served(bundle, tmp_path, logprobs=logprobs)
    assert {FULL, TOP} <= set(found) <= {MINI, FULL, TOP}
    assert (MINI in found) == (logprobs is not UNSURE)


def trial(bundle: Bundle, new: str, old: str = "", texts: tuple[str, ...] = TEXTS) -> RulesTrial:
    rows = [record(text, id=str(place)) for place, text in enumerate(texts)]
    return try_rules(rows, [bundle], rules_of(new), rules_of(old))


def test_shares_and_costs_are_those_of_each_rung(ladder: Bundle):
    found = trial(ladder, '[[rules]]\nname = "all"\nrung = "gpt-4o"')
    assert found.total.share_rungs_before == {MINI: 0.25, FULL: 0.25, TOP: 0.5}
    assert found.total.share_rungs_after == {MINI: 0.0, FULL: 1.0, TOP: 0.0}
    assert (found.total.changed, found.rules[0].reasons) == (3, {"RULE": 4})
    prices = LadderPrices.of(ladder.manifest.ladder)
    usd = [prices.expected_usd(-(-len(text) // 4)) for text in TEXTS]
    assert found.total.usd_per_1k_after == pytest.approx(1000 * sum(one[1] for one in usd) / 4)
    before = usd[0][0] + usd[1][1] + usd[2][2] + usd[3][2]
    assert found.total.usd_per_1k_before == pytest.approx(1000 * before / 4)


def test_from_one_rung_between_to_the_top_is_a_change(ladder: Bundle):
    found = trial(ladder, '[[rules]]\nname = "all"\nroute = "strong"', '[[rules]]\nname = "all"\nrung = "gpt-4o"')
    assert found.total.changed == 4
    assert found.total.share_weak_before == found.total.share_weak_after == 0.0


def test_a_session_goes_on_from_its_rung(ladder: Bundle):
    rows = [record(MIDDLE * 60, id="1", session_id="s"), record("x", id="2", session_id="s")]
    stay = rules_of("[session]\nstay_strong = true")
    arm = Arm(stay, [ladder], can_check=False)
    first, second = (arm.outcome(one, TrialLooks(one, early_exit=True)) for one in rows)
    assert (first.rung, second.rung, second.reason) == (TOP, TOP, "SESSION")


def test_nothing_of_rungs_is_said_of_a_pair(bundle: Bundle):
    assert b"rung" not in msgspec.json.encode(trial(bundle, 'otherwise = "strong"'))
